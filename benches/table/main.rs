//! The table of `benches/README.md`: muster beside its floors, from one command.
//!
//! `cargo bench --bench table -- [--runs N] [--write] [--quick]`. `--write` puts the table into `benches/README.md`; `--quick` does a
//! twentieth of the work, to try the program and not the server. The load generator has one thread; each server is another process.

mod floor;
mod http;
mod killed;
mod load;
mod one_way;
mod process;
mod report;
mod requests;
mod rows;
mod run;
mod samples;
mod stats;
mod told;

use std::path::Path;
use std::process::ExitCode;

use run::Amount;

/// As the binary has it, so that the floor and muster differ in what they do only.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: cargo bench --bench table -- [--runs N] [--write] [--quick]";
const RUNS: usize = 3;
const WHOLE: Amount = Amount { registrations: 200_000, renewals: 400_000, look_ups: 300_000, changes: 10_000, kills: 300, slow_kills: 20 };
const QUICK: Amount = Amount { registrations: 10_000, renewals: 20_000, look_ups: 15_000, changes: 500, kills: 20, slow_kills: 3 };

/// Between these lines of `benches/README.md` stands the table.
const TABLE_START: &str = "<!-- table: written by `cargo bench --bench table -- --write` -->\n";
const TABLE_END: &str = "<!-- end of table -->\n";

/// What is asked on the command line.
struct Options {
    runs: usize,
    write: bool,
    amount: Amount,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, listen, samples] = arguments.as_slice()
        && role == "floor"
    {
        let listen = listen.parse().expect("an address");
        runtime_of_servers().block_on(floor::serve(listen, Path::new(samples)));
        return ExitCode::SUCCESS;
    }
    if let [role, host, number] = arguments.as_slice()
        && let Some(way) = killed::Way::of(role)
    {
        let (host, number) = (host.parse().expect("an address"), number.parse().expect("a number"));
        runtime_of_providers().block_on(killed::provide(way, host, number));
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    measure(&options);
    ExitCode::SUCCESS
}

impl Options {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut options = Self { runs: RUNS, write: false, amount: WHOLE };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                // Cargo adds this one.
                "--bench" => {}
                "--write" => options.write = true,
                "--quick" => options.amount = QUICK,
                "--runs" => options.runs = rest.next()?.parse().ok().filter(|runs| *runs > 0)?,
                _ => return None,
            }
        }
        Some(options)
    }
}

fn measure(options: &Options) {
    let place = report::Place::look();
    let generator = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let runs: Vec<_> = (1..=options.runs)
        .map(|number| {
            eprintln!("run {number} of {}", options.runs);
            generator.block_on(run::run(options.amount))
        })
        .collect();
    let table = report::to_markdown(&place, &runs);
    println!("{table}");
    if options.write {
        write(&table);
    }
}

fn runtime_of_providers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// As `#[tokio::main]` makes it, which is what servers run on.
fn runtime_of_servers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

fn write(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/README.md");
    let text = std::fs::read_to_string(&path).expect("benches/README.md");
    let (before, rest) = text.split_once(TABLE_START).expect("a line where the table begins");
    let (_, after) = rest.split_once(TABLE_END).expect("a line where the table ends");
    std::fs::write(&path, format!("{before}{TABLE_START}\n{table}\n{TABLE_END}{after}")).expect("benches/README.md can be written");
}
