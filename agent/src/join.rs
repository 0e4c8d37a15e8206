//! `baton-agent join`: a host gets its certificate by a token, and `agent.toml` to begin with if it has none.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::StackName;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use toml_edit::{Array, DocumentMut, value};
use transport::IdentityFiles;
use transport::join::client::{self, JoinError, Joined};
use transport::join::token::Token;

use crate::config::{Config, ConfigError};

/// What hosts begin with; the packages have the same file.
const EXAMPLE: &str = include_str!("../../packaging/baton-agent/agent.toml");

/// Why a host has not joined, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration that is there has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is another stack's.
    #[error("{} is of the stack `{found}` and the token of `{wanted}`: change `name` in [node], or order a token for `{found}`. Nothing \
             was sent, the token is still good", path.display())]
    OtherName {
        /// The configuration.
        path: PathBuf,
        /// Its name.
        found: StackName,
        /// The token's name.
        wanted: StackName,
    },
    /// No certificate.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The certificate is there, its configuration is not.
    #[error("the certificate is there, but {} can't be written: {cause}; copy /usr/share/baton/agent.toml to it, and put this host's \
             names and addresses in", path.display())]
    Write {
        /// The configuration.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// Has this host join, with the names and paths of the configuration if there is one, and otherwise with files beside it. Returns what
/// was done and what is left to do.
///
/// # Errors
/// [`Failure`].
pub async fn join(address: &str, token: &Token, path: &Path) -> Result<String, Failure> {
    let config = if path.exists() { Some(Config::load(path)?) } else { None };
    let files = match &config {
        Some(Config { node, .. }) if node.name != token.name => {
            let (found, wanted) = (node.name.clone(), token.name.clone());
            return Err(Failure::OtherName { path: path.to_owned(), found, wanted });
        }
        Some(Config { cluster, .. }) => {
            let (ca, certificate, key) = (&cluster.ca, &cluster.certificate, &cluster.key);
            IdentityFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() }
        }
        None => files_beside(path, &token.name),
    };
    let joined = client::join(address, token, &files).await?;
    let mut said = format!(
        "{}  valid until {}\n{}  private key, mode 0600\n{}  the cluster's authority\n",
        files.certificate.display(),
        joined.expires.date,
        files.key.display(),
        files.ca.display()
    );
    match config {
        Some(config) => said += &missing(&config, path, &joined),
        None => said += &begin(path, token, &files, &joined)?,
    }
    Ok(said)
}

/// `pki/` beside a configuration that is not there yet.
fn files_beside(path: &Path, name: &StackName) -> IdentityFiles {
    // What the agent is started with later may be relative to another directory.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let pki = path.parent().unwrap_or(Path::new("/etc/baton")).join("pki");
    let at = |file: String| pki.join(file);
    IdentityFiles {
        ca: at("ca.pem".into()),
        certificate: at(format!("{name}.pem")),
        key: at(format!("{name}.key")),
    }
}

/// What a configuration lacks that was there before.
fn missing(config: &Config, path: &Path, joined: &Joined) -> String {
    let mut said = String::from("An agent that runs takes them up by itself.\n");
    for stack in &joined.routing_stacks {
        if config.routing_stacks.iter().all(|known| known.name != stack.name) {
            let _ = write!(
                said,
                "{} lacks a routing stack; add\n[[routing_stack]]\nname = \"{}\"\ncontrol = \"{}\"\n",
                path.display(),
                stack.name,
                stack.control
            );
        }
    }
    said
}

/// Writes the configuration to begin with.
fn begin(path: &Path, token: &Token, files: &IdentityFiles, joined: &Joined) -> Result<String, Failure> {
    let failed = |cause| Failure::Write { path: path.to_owned(), cause };
    let interface = interface_of(joined.address);
    let text = configuration(&token.name, files, joined, interface.as_deref()).map_err(failed)?;
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
    let file = path.display();
    let mut said = format!(
        "{file}  to begin with: see whether its address and interface are those of the cluster's network\n"
    );
    if interface.is_none() {
        let _ = writeln!(said, "No interface with {} was found: put its name in.", joined.address);
    }
    if joined.routing_stacks.is_empty() {
        said += "The authority names no routing stack (`baton pki serve --routing-stack`): put yours in.\n";
    }
    let _ = writeln!(said, "Next: baton check {file} && systemctl start baton-agent");
    Ok(said)
}

/// The example with this host's names, addresses and paths.
fn configuration(
    name: &StackName,
    files: &IdentityFiles,
    joined: &Joined,
    interface: Option<&str>,
) -> io::Result<String> {
    let mut file: DocumentMut = EXAMPLE.parse().map_err(io::Error::other)?;
    file["node"]["name"] = value(name.as_str());
    file["node"]["cluster_address"] = value(Array::from_iter([joined.address.to_string()]));
    if let Some(interface) = interface {
        file["node"]["interface"] = value(interface);
    }
    for (key, path) in [("ca", &files.ca), ("certificate", &files.certificate), ("key", &files.key)] {
        file["cluster"][key] = value(path.display().to_string());
    }
    let tables = file["routing_stack"].as_array_of_tables_mut().filter(|_| !joined.routing_stacks.is_empty());
    if let Some((tables, example)) = tables.and_then(|t| t.get(0).cloned().map(|example| (t, example))) {
        tables.clear();
        for (number, stack) in joined.routing_stacks.iter().enumerate() {
            let mut table = example.clone();
            table["name"] = value(stack.name.as_str());
            table["control"] = value(stack.control.to_string());
            if number > 0 {
                table.decor_mut().set_prefix("\n");
            }
            tables.push(table);
        }
    }
    Ok(file.to_string())
}

/// The interface that has an address.
fn interface_of(address: IpAddr) -> Option<String> {
    let ip = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
    };
    let mut all = getifaddrs().ok()?;
    all.find(|found| found.address.and_then(ip) == Some(address)).map(|found| found.interface_name)
}

#[cfg(test)]
mod tests {
    use transport::Expiry;
    use transport::join::RoutingStack;

    use super::*;

    fn name(text: &str) -> StackName {
        StackName::new(text).unwrap()
    }

    #[test]
    fn the_configuration_to_begin_with_is_good_and_says_what_is_known() {
        let stack = |name_of: &str, control: &str| RoutingStack {
            name: name(name_of),
            control: control.parse().unwrap(),
        };
        let joined = Joined {
            address: "2001:db8::27".parse().unwrap(),
            expires: Expiry::default(),
            routing_stacks: vec![stack("rt1", "192.0.2.10:7440"), stack("rt2", "[2001:db8::11]:7440")],
        };
        let path = Path::new("/tmp/new/agent.toml");
        let files = files_beside(path, &name("t7"));
        // A host of the packages has this group.
        let text = configuration(&name("t7"), &files, &joined, Some("eth7"))
            .unwrap()
            .replace("group = \"baton\"", "");
        let config = Config::parse(path, &text).unwrap();
        assert_eq!(config.node.name, name("t7"));
        assert_eq!(config.node.interfaces, ["eth7"]);
        assert_eq!(config.node.cluster_address.v6, Some("2001:db8::27".parse().unwrap()));
        assert_eq!(config.cluster.key, Path::new("/tmp/new/pki/t7.key"));
        assert_eq!(config.cluster.certificate, Path::new("/tmp/new/pki/t7.pem"));
        assert_eq!(config.cluster.ca, Path::new("/tmp/new/pki/ca.pem"));
        let stacks: Vec<_> =
            config.routing_stacks.iter().map(|s| (s.name.as_str(), s.control.port())).collect();
        assert_eq!(stacks, [("rt1", 7440), ("rt2", 7440)]);
        assert!(!text.contains("192.0.2.21") && text.contains("# As in the certificate."), "{text}");
    }

    #[test]
    fn an_address_of_this_host_has_an_interface_and_another_has_none() {
        assert_eq!(interface_of([127, 0, 0, 1].into()).as_deref(), Some("lo"));
        assert_eq!(interface_of([192, 0, 2, 27].into()), None);
    }
}
