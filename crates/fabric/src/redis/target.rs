//! Where the servers are: `redis://[user:password@]host:port[,host:port…]`, or `rediss://` for TLS.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tokio_rustls::TlsConnector;

/// The port of a server whose address names none.
const PORT: u16 = 6379;

/// The servers to begin with, and how to log in. Several are of one Redis Cluster, which names the others.
#[derive(Clone)]
pub struct Target {
    pub(crate) seeds: Vec<Address>,
    pub(crate) login: Option<Login>,
    pub(crate) tls: Option<TlsConnector>,
}

/// Who we are to the servers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// An address that cannot be one of Redis. It does not repeat the address, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// It is written in another way.
    #[error(
        "an address of Redis is redis://[user:password@]host:port[,host:port…], or rediss:// for TLS: {0}"
    )]
    Form(&'static str),
    /// TLS cannot be set up.
    #[error("set up TLS: {0}")]
    Tls(String),
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(url: &str) -> Result<Self, InvalidTarget> {
        let wrong = InvalidTarget::Form;
        let (scheme, rest) = url.split_once("://").ok_or(wrong("the scheme is missing"))?;
        let tls = match scheme {
            "redis" => None,
            "rediss" => Some(connector()?),
            _ => return Err(wrong("the scheme is neither redis nor rediss")),
        };
        // A password may hold an `@` that nobody has escaped; a host never does.
        let (login, hosts) = match rest.rsplit_once('@') {
            Some((login, hosts)) => (Some(login.parse()?), hosts),
            None => (None, rest),
        };
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        if hosts.contains(['/', '?', '#']) {
            return Err(wrong("there is something after the hosts, which means nothing here"));
        }
        let seeds = hosts.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { seeds, login, tls })
    }
}

impl FromStr for Login {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let wrong = InvalidTarget::Form;
        let (user, password) = text.split_once(':').ok_or(wrong("a user needs a password"))?;
        let user = unescape(user).ok_or(wrong("the user is not written in percent encoding"))?;
        let password = unescape(password).ok_or(wrong("the password is not written in percent encoding"))?;
        // Without a name it is the password of the server (`requirepass`), whose user is called this.
        let user = if user.is_empty() { "default".into() } else { user };
        Ok(Self { user, password })
    }
}

impl FromStr for Address {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let wrong = InvalidTarget::Form;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(wrong("a bracket is not closed"))?;
                (host, if port.is_empty() { None } else { port.strip_prefix(':').or(Some("")) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("a host is missing"));
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong("a port is no number"))?,
            None => PORT,
        };
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Without the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() { "rediss://" } else { "redis://" })?;
        if let Some(login) = &self.login {
            write!(f, "{}:…@", login.user)?;
        }
        for (at, seed) in self.seeds.iter().enumerate() {
            write!(f, "{}{seed}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Trusts what the system trusts: servers of one's own mostly have a certificate of an authority of one's own.
fn connector() -> Result<TlsConnector, InvalidTarget> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(|| "the system trusts nobody".into(), ToString::to_string);
        return Err(InvalidTarget::Tls(why));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidTarget::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Percent encoding (RFC 3986 section 2.1), taken back.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, seeds: &[(&str, u16)], login: Option<(&str, &str)>) {
        let target: Target = url.parse().unwrap();
        let found: Vec<_> = target.seeds.iter().map(|seed| (&*seed.host, seed.port)).collect();
        assert_eq!(found, seeds);
        let found = target.login.as_ref().map(|login| (login.user.as_str(), login.password.as_str()));
        assert_eq!(found, login);
    }

    #[test]
    fn an_address_names_servers_and_a_login() {
        check("redis://localhost", &[("localhost", 6379)], None);
        check("redis://10.0.0.1:7000/", &[("10.0.0.1", 7000)], None);
        check("redis://a:1,b,[::1]:3,[::2]", &[("a", 1), ("b", 6379), ("::1", 3), ("::2", 6379)], None);
        check("redis://ana:s%40%3a@a:1", &[("a", 1)], Some(("ana", "s@:")));
        check("redis://:p@ss:word@a:1", &[("a", 1)], Some(("default", "p@ss:word")));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "",
            "localhost",
            "http://a",
            "redis://",
            "redis://a,",
            "redis://a:x",
            "redis://a:70000",
            "redis://[::1",
            "redis://[::1]x",
            "redis://a/0",
            "redis://user@a",
            "redis://u:%4@a",
            "redis://u:%zz@a",
            "redis://u:%ff@a",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let target: Target = "redis://ana:secret@a:1,b:2".parse().unwrap();
        assert_eq!(format!("{target:?}"), "redis://ana:…@a:1,b:2");
    }
}
