//! Options that several verbs share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::output::{self, Format};
use crate::client::{Client, SERVER_DEFAULT, Tls};
use crate::config::{Flag, Inputs};
use crate::model::Namespace;
use crate::tls::Unfit;

/// A node that settles is waited for: by default it takes 2 s to join and 20 s until every provider had its turn.
const WARMING_WAIT: Duration = Duration::from_secs(25);

/// Which cluster is asked.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// A node, or several: the others are asked when the first does not answer
    #[arg(short, long = "server", value_name = "URL", env = "MUSTER_SERVER", value_delimiter = ',', default_value = SERVER_DEFAULT)]
    pub(super) servers: Vec<String>,
    /// Trust the authorities in this file (PEM) and no others; default: the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this certificate (PEM) to a server that asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Say who calls with the token in this file [env: MUSTER_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Reach {
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.client_of(self.servers.iter().map(|server| server.trim()).filter(|server| !server.is_empty()))
    }

    /// A client of other servers than the options name, known to be of the same cluster.
    pub(super) fn client_of<T: Into<String>>(&self, servers: impl IntoIterator<Item = T>) -> Result<Client, Failure> {
        let name = concat!("muster-cli/", env!("CARGO_PKG_VERSION"));
        let mut builder = Client::builder().servers(servers).name(name).tls(self.tls()?).wait_while_warming(WARMING_WAIT, output::waiting);
        if let Some(token) = self.token()? {
            builder = builder.token(token);
        }
        Ok(builder.build()?)
    }

    fn tls(&self) -> Result<Tls, Failure> {
        let mut tls = Tls::default();
        if let Some(file) = &self.ca {
            tls = tls.authorities(&read("--ca", file)?).map_err(|unfit| unusable("--ca", file, &unfit))?;
        }
        if let Some((cert, key)) = self.cert.as_ref().zip(self.key.as_ref()) {
            let (cert_pem, key_pem) = (read("--cert", cert)?, read("--key", key)?);
            tls = tls.identity(&cert_pem, &key_pem).map_err(|unfit| match unfit {
                Unfit::NoKey | Unfit::NoPair => unusable("--key", key, &unfit),
                Unfit::NoCertificate | Unfit::NotPem | Unfit::Unusable(_) => unusable("--cert", cert, &unfit),
            })?;
        }
        Ok(tls)
    }

    /// A file counts for more than the environment. Neither is ever shown.
    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.token_file else {
            return Ok(Inputs::from_environment().variable("MUSTER_TOKEN").map(|token| token.trim().to_owned()));
        };
        let token = String::from_utf8(read("--token-file", file)?).map_err(|_| unusable("--token-file", file, &"it is not text"))?;
        match token.trim() {
            "" => Err(unusable("--token-file", file, &"it is empty")),
            token => Ok(Some(token.to_owned())),
        }
    }
}

/// Which namespace is meant.
#[derive(Debug, Args)]
pub(super) struct Within {
    /// The namespace
    #[arg(short, long, value_name = "NAME", env = "MUSTER_NAMESPACE", default_value = "default")]
    pub(super) namespace: Namespace,
}

/// How the answer is written.
#[derive(Debug, Args)]
pub(super) struct Shape {
    /// How to write the answer; json is the API's own body
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub(super) output: Format,
}

/// What a node is told on the command line.
#[derive(Debug, Args)]
pub(super) struct Configuration {
    /// A TOML file [env: MUSTER_CONFIG]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The node's name; default: the host name's first label [env: MUSTER_NAME]
    #[arg(long)]
    name: Option<String>,
    /// The cluster's name; default: muster [env: MUSTER_CLUSTER]
    #[arg(long)]
    cluster: Option<String>,
    /// NATS servers, a comma between them; without any, this node is alone [env: MUSTER_NATS]
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Nothing was registered before: do not wait until every provider had its turn [env: MUSTER_EXPECT_EMPTY]
    #[arg(long)]
    expect_empty: bool,
    #[command(flatten)]
    common: Common,
}

/// What `serve` and `dev` are told alike.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Where HTTP listens; default: 127.0.0.1:6878 [env: MUSTER_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<String>,
    /// Where the file it starts from is kept; without it, nothing is on disk [env: MUSTER_DATA_DIR]
    #[arg(long, value_name = "FOLDER")]
    pub(super) data_dir: Option<String>,
    /// Any other key of the configuration; again for more [env: MUSTER_SECTION_KEY]
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(super) sets: Vec<String>,
}

impl Configuration {
    /// With this process's environment.
    pub(super) fn to_inputs(&self) -> Inputs {
        let mut inputs = self.common.to_inputs();
        inputs.file.clone_from(&self.file);
        let own = [
            flag("--name", "node.name", self.name.as_ref()),
            flag("--cluster", "cluster.name", self.cluster.as_ref()),
            flag("--nats", "bus.url", self.nats.as_ref()),
            flag("--expect-empty", "cluster.expect_empty", self.expect_empty.then(|| "true".to_owned()).as_ref()),
        ];
        inputs.flags.extend(own.into_iter().flatten());
        inputs
    }
}

impl Common {
    /// With this process's environment.
    pub(super) fn to_inputs(&self) -> Inputs {
        let own = [flag("--listen", "http.listen", self.listen.as_ref()), flag("--data-dir", "node.data_dir", self.data_dir.as_ref())];
        Inputs { sets: self.sets.clone(), flags: own.into_iter().flatten().collect(), ..Inputs::from_environment() }
    }
}

fn read(flag: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| unusable(flag, file, &error))
}

fn unusable(flag: &str, file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{flag} {}: {why}", file.display()))
}

fn flag(flag: &'static str, key: &'static str, value: Option<&String>) -> Option<Flag> {
    value.map(|value| Flag { flag, key, value: value.clone() })
}
