//! `import`: registrations, one a line as `export` writes them, given to a cluster in batches; a line that fails leaves the others.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::failure::{Code, Failure};
use super::nodes::counted;
use super::options::{Reach, Within};
use super::output;
use super::provide::BYTE_ORDER_MARK;
use crate::api::provide::{Batch, Op, OpResult};
use crate::client::Client;
use crate::model::{InstanceId, Namespace, ServiceName};

/// How many registrations are sent at once.
const OPS_MAX: usize = 500;
/// About how many bytes of lines are sent at once: well below what a node takes, 8 MiB, and at least one line.
const BYTES_MAX: usize = 4 << 20;
/// How long one line may be: more than the largest registration, 64 KiB.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What `import` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Nobody sends heartbeats for what is imported but its providers: without them it expires as any other instance does.
An instance of which a later life is known there stays as it is, and its line fails with `superseded`.

Exit code 1: a line failed; the others were taken. Again is no harm: what is registered already stays as it is.

Examples:
  muster import instances.ndjson
  muster import instances.ndjson --dry-run
  muster export -A -s http://old:6878 | muster import -s http://new:6878")]
pub(super) struct Arguments {
    /// The file; - reads stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Read every line and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Of lines that name no namespace
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let Arguments { file, dry_run, within, reach } = arguments;
    let mut lines = open(&file)?;
    let client = if dry_run { None } else { Some(reach.client()?) };
    let mut import = Import { client, progress: progress(), gathered: Vec::new(), bytes: 0, taken: 0, failed: 0 };
    let mut line = Vec::new();
    for number in 1.. {
        let unreadable = |error| Failure::new(Code::Failed, format!("{}, line {number}: {error}", file.display()));
        if !next_line(&mut *lines, &mut line).map_err(unreadable)? {
            break;
        }
        if number == 1 && line.starts_with(BYTE_ORDER_MARK.as_bytes()) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read(&line, &within.namespace) {
            Ok(op) => import.add(number, op, line.len()).await?,
            Err(why) => import.fail(number, &why),
        }
    }
    import.send().await?;
    import.progress.finish_and_clear();
    let done = if dry_run { "could be imported, as far as it can be told from here" } else { "imported" };
    output::line(&format!("{} {done}, {} failed", counted(import.taken, "instance"), counted(import.failed, "line")))?;
    Ok(if import.failed == 0 { Code::Ok } else { Code::Failed })
}

fn open(file: &PathBuf) -> Result<Box<dyn BufRead>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = std::fs::File::open(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// The next line, or as much of it as shows that it is too long; false at the end.
fn next_line(lines: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let read = lines.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)?;
    if read > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        lines.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

/// On a terminal only: what reads stderr wants the lines that failed and nothing else.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos} lines, {per_sec}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let progress = ProgressBar::new_spinner().with_style(style);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

/// One line as one write of a batch, or why it cannot be one.
fn read(line: &[u8], namespace: &Namespace) -> Result<Op, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    let tree: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(mut said) = tree else { return Err("must be one JSON object".to_owned()) };
    if said.contains_key("op") || said.contains_key("digest") {
        return Err("must be a registration: without `op` and `digest`".to_owned());
    }
    said.insert("op".to_owned(), "register".into());
    let op: Op = serde_json::from_value(Value::Object(said)).map_err(|error| error.to_string())?;
    ServiceName::parse(&op.service).map_err(|error| error.to_string())?;
    InstanceId::parse(&op.id).map_err(|error| error.to_string())?;
    op.namespace.as_deref().map(Namespace::parse).transpose().map_err(|error| error.to_string())?;
    match (&op.address, op.port) {
        (None, _) => Err("`address` is needed".to_owned()),
        (_, None | Some(0)) => Err("`port` is needed, 1 to 65535".to_owned()),
        (Some(_), Some(_)) => Ok(Op { namespace: Some(op.namespace.unwrap_or_else(|| namespace.to_string())), ..op }),
    }
}

/// An import on its way.
struct Import {
    /// `None`: nothing is sent.
    client: Option<Client>,
    progress: ProgressBar,
    /// Writes that were not sent yet, with their lines: at most [`OPS_MAX`] of about [`BYTES_MAX`].
    gathered: Vec<(u64, Op)>,
    bytes: usize,
    taken: usize,
    failed: usize,
}

impl Import {
    async fn add(&mut self, number: u64, op: Op, bytes: usize) -> Result<(), Failure> {
        if self.gathered.len() >= OPS_MAX || self.bytes + bytes > BYTES_MAX {
            self.send().await?;
        }
        self.gathered.push((number, op));
        self.bytes += bytes;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let (numbers, ops): (Vec<u64>, Vec<Op>) = std::mem::take(&mut self.gathered).into_iter().unzip();
        self.bytes = 0;
        let Some(client) = self.client.as_ref().filter(|_| !ops.is_empty()) else {
            self.took(numbers.len());
            return Ok(());
        };
        let answered = client.batch(&Batch { ops }).await;
        let results = answered.map_err(|error| {
            let taken = counted(self.taken, "instance");
            let from = numbers.first().copied().unwrap_or_default();
            Failure::from(error).hint(format!("{taken} were imported; the lines from {from} on were not answered: run it again"))
        })?;
        for (number, result) in numbers.into_iter().zip(results.value.results) {
            if result.status < 400 { self.took(1) } else { self.fail(number, &in_words(&result)) }
        }
        Ok(())
    }

    fn took(&mut self, count: usize) {
        self.taken += count;
        self.progress.inc(count as u64);
    }

    fn fail(&mut self, number: u64, why: &str) {
        self.failed += 1;
        self.progress.inc(1);
        self.progress.suspend(|| output::remark(&format!("line {number}: {why}")));
    }
}

fn in_words(result: &OpResult<'_>) -> String {
    let (code, detail) = (result.code.as_deref().unwrap_or("failed"), result.detail.as_deref().unwrap_or_default());
    let faults = result.errors.iter().map(|fault| format!("\n  {}: {}", fault.pointer.as_deref().unwrap_or("line"), fault.detail));
    format!("{code}: {detail}{}", faults.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_costs_no_more_than_the_longest_that_is_taken() {
        let text = [vec![b'x'; 3 * LINE_BYTES_MAX], b"\n{}\nlast".to_vec()].concat();
        let (mut lines, mut line, mut lengths) = (&text[..], Vec::new(), Vec::new());
        while next_line(&mut lines, &mut line).unwrap() {
            lengths.push(line.trim_ascii().len());
        }
        assert_eq!(lengths, [LINE_BYTES_MAX + 1, 2, 4]);
    }

    #[test]
    fn a_line_is_a_registration_and_says_what_is_wrong_with_it() {
        let read = |line: &str| read(line.as_bytes(), &Namespace::parse("test").unwrap());
        let op = read(r#"{"service":"user","id":"u1","address":"a","port":1,"ttl":"30s"}"#).unwrap();
        assert_eq!((op.op.as_str(), op.namespace.as_deref(), op.id.as_str()), ("register", Some("test"), "u1"));
        let named = read(r#"{"namespace":"other","service":"user","id":"u1","address":"a","port":1}"#).unwrap();
        assert_eq!(named.namespace.as_deref(), Some("other"));
        for (line, told) in [
            ("{", "no JSON"),
            ("[]", "one JSON object"),
            (r#"{"id":"u1","address":"a","port":1}"#, "service"),
            (r#"{"service":"user","id":"u1","port":1}"#, "`address` is needed"),
            (r#"{"service":"user","id":"u1","address":"a"}"#, "`port` is needed"),
            (r#"{"service":"../x","id":"u1","address":"a","port":1}"#, "a service name must be"),
            (r#"{"service":"user","id":"u1","address":"a","prot":1}"#, "prot"),
            (r#"{"op":"deregister","service":"user","id":"u1"}"#, "without `op`"),
        ] {
            let why = read(line).unwrap_err();
            assert!(why.contains(told), "{line}: {why}");
        }
    }
}
