//! What the start checks of a host, without starting: `baton check` and `batond --check`.

use std::path::Path;

use model::StackName;
use transport::{Identity, IdentityFiles};

use super::reload;
use crate::config::{self, Config};

/// What would keep `batond` from starting with this configuration on this host; empty: nothing that can be seen before.
pub fn host(config: &Config) -> Vec<String> {
    let mut problems = identity(&reload::identity_files(&config.cluster), &config.node.name);
    let settings = &config.forwarder;
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    for core in settings.workers.iter().map(|core| usize::from(*core)).filter(|core| !cores.contains(core)) {
        problems.push(format!(
            "worker core {core} can't be used: this process may run on {cores:?}; change `forwarder.workers`"
        ));
    }
    for device in [&settings.nic.device, &settings.local.device] {
        let missing = config::shared_interface(device).filter(|name| !exists(name));
        problems.extend(missing.map(|name| {
            format!("there is no interface `{name}` here, which the device `{device}` reads; make it first, or change `device`")
        }));
    }
    problems.extend(interface(&settings.local.interface));
    problems
}

/// What is wrong with a stack's certificate, key and authority.
pub fn identity(files: &IdentityFiles, name: &StackName) -> Vec<String> {
    Identity::load(files, name).err().map(|error| error.to_string()).into_iter().collect()
}

/// What is wrong with a network interface.
pub fn interface(name: &str) -> Option<String> {
    (!exists(name))
        .then(|| format!("there is no interface `{name}` here; make it first, or change `interface`"))
}

fn exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fixture::config;

    #[test]
    fn everything_that_is_missing_on_a_host_is_named_at_once() {
        let mut config = config("");
        config.forwarder.workers = vec![60_000];
        config.forwarder.nic.device = "net_af_packet0,iface=bt-none".to_owned();
        let problems = host(&config);
        let names = |word: &str| problems.iter().any(|problem| problem.contains(word));
        assert!(names("ca.pem") && names("core 60000") && names("`loc0`"), "{problems:#?}");
        assert!(names("`bt-none` here, which the device"), "{problems:#?}");
        assert_eq!(problems.len(), 4);
        assert_eq!(interface("lo"), None);
    }
}
