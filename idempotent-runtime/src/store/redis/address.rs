//! Store URLs: where the servers are and how to log in.

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion, io::tcp::TcpSettings};

use crate::{error::SetupError, store::tls::TlsFiles};

/// The servers that a URL names.
pub(super) enum Address {
    Standalone(ConnectionInfo),
    Cluster(Cluster),
    Sentinel(Sentinel),
}

/// A cluster.
pub(super) struct Cluster {
    /// The nodes through which the others are found.
    pub(super) nodes: Vec<ConnectionInfo>,
    /// The certificates for those.
    #[cfg(feature = "redis-tls")]
    pub(super) certificates: Option<redis::TlsCertificates>,
}

/// A primary that sentinels know by name.
pub(super) struct Sentinel {
    /// The sentinels' addresses and login.
    pub(super) sentinels: Vec<ConnectionInfo>,
    /// The name under which they watch the primary.
    pub(super) primary: String,
    /// The login to the primary; its address is a placeholder.
    pub(super) template: ConnectionInfo,
}

const BAD_URL: SetupError = SetupError::Url("expected redis://[user:password@]host[:port][/database]");

/// Reads a URL. Nothing of it appears in the error: it may hold a password.
pub(super) fn parse(url: &str, mut tls: TlsFiles) -> Result<Address, SetupError> {
    #[cfg(not(feature = "redis-tls"))]
    if url.starts_with("rediss") {
        return Err(SetupError::Scheme { feature: Some("redis-tls") });
    }
    let url = tls.take_from(url)?;
    let url = url.as_str();
    let (scheme, rest) = url.split_once("://").ok_or(BAD_URL)?;
    match scheme {
        "redis+cluster" => parse_cluster("redis", rest, &tls),
        "rediss+cluster" => parse_cluster("rediss", rest, &tls),
        "redis+sentinel" => parse_sentinel("redis", rest, &tls),
        "rediss+sentinel" => parse_sentinel("rediss", rest, &tls),
        _ => Ok(Address::Standalone(connection_info(url, &tls)?)),
    }
}

fn parse_cluster(scheme: &str, rest: &str, tls: &TlsFiles) -> Result<Address, SetupError> {
    let parts = Parts::split(rest);
    let nodes = parts.hosts().map(|host| connection_info(&format!("{scheme}://{}{host}", parts.login), tls));
    Ok(Address::Cluster(Cluster {
        nodes: nodes.collect::<Result<_, _>>()?,
        #[cfg(feature = "redis-tls")]
        certificates: certificates(tls),
    }))
}

fn parse_sentinel(scheme: &str, rest: &str, tls: &TlsFiles) -> Result<Address, SetupError> {
    let parts = Parts::split(rest);
    let (primary, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    if primary.is_empty() {
        return Err(SetupError::Url("a sentinel URL ends with the name of the primary: /mymaster"));
    }
    let sentinel_login = sentinel_login(parts.query)?;
    let sentinels = parts.hosts().map(|host| connection_info(&format!("{scheme}://{sentinel_login}{host}"), tls));
    Ok(Address::Sentinel(Sentinel {
        sentinels: sentinels.collect::<Result<_, _>>()?,
        primary: primary.to_owned(),
        template: connection_info(&format!("{scheme}://{}placeholder/{database}", parts.login), tls)?,
    }))
}

/// Sentinels have logins of their own, `?sentinel_user=…&sentinel_password=…`, both percent-encoded.
fn sentinel_login(query: &str) -> Result<String, SetupError> {
    let (mut user, mut password) = ("", None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_user", value)) => user = value,
            Some(("sentinel_password", value)) => password = Some(value),
            _ => return Err(SetupError::Url("a sentinel URL knows ?sentinel_user= and ?sentinel_password= only")),
        }
    }
    Ok(password.map_or_else(String::new, |password| format!("{user}:{password}@")))
}

/// The parts of a URL with several hosts, which URL parsers do not know.
struct Parts<'a> {
    /// `user:password@`, or nothing.
    login: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn split(rest: &'a str) -> Self {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rfind('@') {
            Some(at) => authority.split_at(at + 1),
            None => ("", authority),
        };
        Self { login, hosts, path, query }
    }

    fn hosts(&self) -> impl Iterator<Item = &'a str> {
        self.hosts.split(',')
    }
}

fn connection_info(url: &str, tls: &TlsFiles) -> Result<ConnectionInfo, SetupError> {
    let info = url.into_connection_info().map_err(|_| BAD_URL)?;
    let info = with_certificates(info, tls)?;
    let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    // Requests are small and wait for their answers: Nagle's algorithm would only delay them.
    Ok(info.set_redis_settings(login).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

#[cfg(feature = "redis-tls")]
fn certificates(TlsFiles { root, client }: &TlsFiles) -> Option<redis::TlsCertificates> {
    (root.is_some() || client.is_some()).then(|| redis::TlsCertificates {
        root_cert: root.clone(),
        client_tls: client.clone().map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key }),
    })
}

/// The address with the certificates for it.
#[cfg(feature = "redis-tls")]
fn with_certificates(info: ConnectionInfo, tls: &TlsFiles) -> Result<ConnectionInfo, SetupError> {
    let Some(certificates) = certificates(tls) else { return Ok(info) };
    if !matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
        return Err(SetupError::Url("certificates are for rediss:// only"));
    }
    redis::Client::build_with_tls(info, certificates)
        .map(|client| client.get_connection_info().clone())
        .map_err(|_| SetupError::Setting("the certificates or the key for TLS are not PEM"))
}

#[cfg(not(feature = "redis-tls"))]
fn with_certificates(info: ConnectionInfo, _: &TlsFiles) -> Result<ConnectionInfo, SetupError> {
    Ok(info)
}

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;

    use super::*;

    fn parse(url: &str) -> Result<Address, SetupError> {
        super::parse(url, TlsFiles::default())
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let Ok(Address::Standalone(info)) = parse("redis://[::1]:7000/3") else { panic!() };
        assert_eq!(host_and_port(&info), ("::1", 7000));
        let Ok(Address::Cluster(cluster)) = parse("redis+cluster://[::1]:1,[::2]:2") else { panic!() };
        assert_eq!(cluster.nodes.iter().map(host_and_port).collect::<Vec<_>>(), [("::1", 1), ("::2", 2)]);
    }

    fn host_and_port(info: &ConnectionInfo) -> (&str, u16) {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host, *port),
            other => panic!("not plain TCP: {other}"),
        }
    }

    #[test]
    fn a_standalone_url_keeps_login_and_database() {
        let Ok(Address::Standalone(info)) = parse("redis://user:p%40ss@localhost:7000/3") else { panic!() };
        assert_eq!(host_and_port(&info), ("localhost", 7000));
        assert_eq!(info.redis_settings().username(), Some("user"));
        assert_eq!(info.redis_settings().password(), Some("p@ss"));
        assert_eq!(info.redis_settings().db(), 3);
    }

    #[test]
    fn a_cluster_url_names_several_nodes_with_one_login() {
        let Ok(Address::Cluster(Cluster { nodes, .. })) = parse("redis+cluster://:secret@a:1,b:2") else { panic!() };
        assert_eq!(nodes.iter().map(host_and_port).collect::<Vec<_>>(), [("a", 1), ("b", 2)]);
        assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("secret")));
    }

    #[test]
    fn a_sentinel_url_names_sentinels_primary_and_database() {
        let url = "redis+sentinel://me:pw@a:1,b:2/mymaster/4?sentinel_user=s&sentinel_password=sp";
        let Ok(Address::Sentinel(sentinel)) = parse(url) else { panic!() };
        assert_eq!(sentinel.sentinels.iter().map(host_and_port).collect::<Vec<_>>(), [("a", 1), ("b", 2)]);
        assert_eq!(sentinel.sentinels[0].redis_settings().password(), Some("sp"));
        assert_eq!(sentinel.primary, "mymaster");
        assert_eq!(sentinel.template.redis_settings().username(), Some("me"));
        assert_eq!(sentinel.template.redis_settings().db(), 4);
    }

    #[test]
    fn a_wrong_url_is_refused_without_being_repeated() {
        let urls = [
            "canary",
            "redis://",
            "http://canary",
            "redis://host/canary",
            "redis+cluster://",
            "redis+cluster://a:canary",
            "redis+sentinel://a:1",
            "redis+sentinel://a:1/m?canary=1",
            "redis+sentinel://a:1/m/canary",
        ];
        for url in urls {
            let Err(error) = parse(url) else { panic!("{url} was understood") };
            assert!(!format!("{error:?} {error}").contains("canary"), "{url}");
        }
    }
}
