//! Access: to which servers, and as whom. Secrets are taken out of the URLs, so that nothing which shows a URL shows them;
//! and the client would not use them there, nor know them for the servers it discovers.

use std::io::{Error, ErrorKind};
use std::path::Path;

use async_nats::{ConnectOptions, ServerAddr};

use super::StartError;
use crate::config::{BusConfig, BusTlsConfig, read_secret};

/// Servers without secrets, and the one identity with which all connections are made.
pub(super) struct Access {
    pub(super) servers: Vec<ServerAddr>,
    tls: BusTlsConfig,
    identity: Identity,
}

#[derive(Clone, PartialEq, Eq)]
enum Identity {
    Nobody,
    User {
        name: String,
        password: String,
    },
    Token(String),
    /// The content of a credentials file.
    Credentials(String),
    /// The seed of an nkey.
    Seed(String),
}

impl Access {
    /// Reads what the configuration names; a file counts for more than what stands in a URL.
    pub(super) fn load(config: &BusConfig) -> Result<Self, StartError> {
        let (servers, in_urls) = read_urls(&config.url)?;
        let identity = match (&config.credentials_file, &config.nkey_file) {
            (Some(file), _) => from_file(file, credentials)?,
            (None, Some(file)) => from_file(file, seed)?,
            (None, None) => in_urls,
        };
        Ok(Self { servers, tls: config.tls.clone(), identity })
    }

    /// Options that say who connects.
    pub(super) fn to_options(&self) -> Result<ConnectOptions, StartError> {
        let options = self.to_tls_options();
        Ok(match self.identity.clone() {
            Identity::Nobody => options,
            Identity::User { name, password } => options.user_and_password(name, password),
            Identity::Token(token) => options.token(token),
            Identity::Credentials(text) => options.credentials(&text).map_err(|error| StartError::Client(error.to_string()))?,
            Identity::Seed(seed) => options.nkey(seed),
        })
    }

    /// Servers that the client discovers are written without `tls://`: what all that were named must speak is demanded of those too.
    pub(super) fn demands_tls(&self) -> bool {
        let all_secure = !self.servers.is_empty() && self.servers.iter().all(ServerAddr::tls_required);
        all_secure || self.tls.is_given()
    }

    /// The client reads the files again for each connection, so that new ones need no restart.
    fn to_tls_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new().require_tls(self.demands_tls());
        if let Some(file) = &self.tls.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((cert, key)) = self.tls.identity.pair() {
            options = options.add_client_certificate(cert.to_owned(), key.to_owned());
        }
        options
    }
}

fn read_urls(urls: &[String]) -> Result<(Vec<ServerAddr>, Identity), StartError> {
    let mut servers = Vec::new();
    let mut identities = Vec::new();
    for url in urls {
        let (server, identity) = read_url(url)?;
        servers.push(server);
        identities.push(identity);
    }
    identities.dedup();
    let mut identities = identities.into_iter();
    match (identities.next(), identities.next()) {
        (identity, None) => Ok((servers, identity.unwrap_or(Identity::Nobody))),
        (_, Some(_)) => Err(StartError::Users),
    }
}

fn read_url(url: &str) -> Result<(ServerAddr, Identity), StartError> {
    let unreadable = |error: Error| StartError::Server(error.to_string());
    let server: ServerAddr = url.parse().map_err(unreadable)?;
    let identity = match (server.username().map(percent_decoded), server.password().map(percent_decoded)) {
        (None, _) => Identity::Nobody,
        (Some(token), None) => Identity::Token(token),
        (Some(name), Some(password)) => Identity::User { name, password },
    };
    let mut bare = server.into_inner();
    let stripped = bare.set_username("").and_then(|()| bare.set_password(None));
    stripped.map_err(|()| StartError::Server("it has no host".to_owned()))?;
    Ok((ServerAddr::from_url(bare).map_err(unreadable)?, identity))
}

/// What `%40` and the like stand for; anything else stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn from_file(file: &Path, read: fn(&str) -> Result<Identity, Error>) -> Result<Identity, StartError> {
    read_secret(file).and_then(|text| read(&text)).map_err(|source| StartError::Credentials { file: file.to_owned(), source })
}

fn credentials(text: &str) -> Result<Identity, Error> {
    // Said by the parser that will use it; the error names no secret.
    ConnectOptions::with_credentials(text)?;
    Ok(Identity::Credentials(text.to_owned()))
}

/// The seed of a user's nkey, in a file that may say more about it on lines of its own.
fn seed(text: &str) -> Result<Identity, Error> {
    let is_seed =
        |line: &&str| line.len() == 58 && line.starts_with("SU") && line.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
    match text.lines().map(str::trim).find(is_seed) {
        Some(seed) => Ok(Identity::Seed(seed.to_owned())),
        None => Err(Error::new(ErrorKind::InvalidData, "no line in it is the seed of a user's nkey (SU…)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(urls: &[&str]) -> Result<Access, StartError> {
        let url = urls.iter().map(|&url| url.to_owned()).collect();
        Access::load(&BusConfig { url, ..BusConfig::default() })
    }

    #[test]
    fn secrets_are_taken_out_of_urls() {
        let access = load(&["nats://ops:p%40ss%25@a:4222", "ops:p%40ss%25@b"]).unwrap();
        assert!(access.identity == Identity::User { name: "ops".to_owned(), password: "p@ss%".to_owned() });
        let shown = format!("{:?}", access.servers);
        assert!(!shown.contains("ops") && !shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
        assert_eq!(access.servers.iter().map(ServerAddr::host).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(access.servers[1].port(), 4222);
        assert!(load(&["nats://s3cr3t@a"]).unwrap().identity == Identity::Token("s3cr3t".to_owned()));
        assert!(load(&["tls://a"]).unwrap().identity == Identity::Nobody);
    }

    #[test]
    fn tls_is_demanded_where_it_is_configured_or_all_servers_say_so() {
        let demanded = |urls: &[&str], tls: BusTlsConfig| {
            let access = Access { tls, ..load(urls).unwrap() };
            let options = format!("{:?}", access.to_options().unwrap());
            assert_eq!(options.contains("\"tls_required\": true"), access.demands_tls(), "{options}");
            access.demands_tls()
        };
        let files = BusTlsConfig { ca_file: Some("ca.pem".into()), ..BusTlsConfig::default() };
        assert!(!demanded(&["nats://a"], BusTlsConfig::default()));
        assert!(!demanded(&["tls://a", "nats://b"], BusTlsConfig::default()));
        assert!(demanded(&["tls://a", "tls://b"], BusTlsConfig::default()));
        assert!(demanded(&["nats://a"], files));
    }

    #[test]
    fn one_node_is_one_user() {
        assert!(matches!(load(&["nats://a:x@h1", "nats://b:x@h2"]), Err(StartError::Users)));
        assert!(matches!(load(&["nats://a:x@h1", "nats://h2"]), Err(StartError::Users)));
    }

    #[test]
    fn files_that_are_not_what_they_should_be_are_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "not a seed\n").unwrap();
        for config in [
            BusConfig { nkey_file: Some(file.clone()), ..BusConfig::default() },
            BusConfig { credentials_file: Some(file.clone()), ..BusConfig::default() },
            BusConfig { nkey_file: Some(folder.path().join("absent")), ..BusConfig::default() },
        ] {
            assert!(matches!(Access::load(&config), Err(StartError::Credentials { .. })));
        }
    }

    #[test]
    fn an_nkey_is_found_among_remarks() {
        let seed_text = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
        assert!(seed(&format!("# node 1\n {seed_text}\r\n")).unwrap() == Identity::Seed(seed_text.to_owned()));
    }
}
