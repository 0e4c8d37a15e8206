//! `baton setup hugepages`: now, and at each start of the host.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::Host;
use crate::arguments::SetupCommand;
use crate::failure::Failure;

/// What systemd-tmpfiles writes at each start of the host.
const KEPT: &str = "etc/tmpfiles.d/baton-hugepages.conf";

/// Runs the command.
pub(crate) fn run(command: &SetupCommand) -> Result<String, Failure> {
    let SetupCommand::Hugepages { count, node, keep } = command;
    hugepages(Path::new("/"), *count, *node, *keep)
}

/// Where the number of 2 MiB pages of a node stands.
fn file(node: u32) -> PathBuf {
    PathBuf::from(format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"))
}

/// Has each of these nodes have so many pages of 2 MiB.
fn hugepages(root: &Path, count: u64, node: Option<u32>, keep: bool) -> Result<String, Failure> {
    let known: Vec<u32> =
        Host::read_below(root).hugepages.iter().filter(|p| p.size_kb == 2048).map(|p| p.node).collect();
    let nodes: Vec<u32> =
        known.iter().copied().filter(|known| node.is_none_or(|node| node == *known)).collect();
    if nodes.is_empty() {
        return Err(Failure::Text(format!(
            "error: no such NUMA node; those with hugepages of 2 MiB are {known:?}"
        )));
    }
    let mut text = String::new();
    for node in &nodes {
        let path = root.join(file(*node));
        let failed =
            |cause: std::io::Error| Failure::Text(format!("error: cannot write {}: {cause}", path.display()));
        let has = || fs::read_to_string(&path).map(|text| text.trim().parse::<u64>().unwrap_or_default());
        let former = has().map_err(failed)?;
        fs::write(&path, count.to_string()).map_err(failed)?;
        let now = has().map_err(failed)?;
        if now < count {
            // Pages that were got and are too few help nobody.
            let _ = fs::write(&path, former.to_string());
            return Err(Failure::Text(format!(
                "error: node {node} has room for {now} of {count} pages only, and is left with {former}; its memory is in use or in \
                 pieces: --keep after a restart of the host, or fewer"
            )));
        }
        text += &format!("node {node}: {now} hugepages of 2 MiB, {former} before\n");
    }
    if keep {
        let lines: String =
            nodes.iter().map(|node| format!("w /{} - - - - {count}\n", file(*node).display())).collect();
        let path = root.join(KEPT);
        let kept = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, lines));
        kept.map_err(|cause| {
            Failure::Text(format!("{text}error: cannot write {}: {cause}", path.display()))
        })?;
        text += &format!("/{KEPT} has them made at each start of the host\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for node in [0, 1] {
            let path = dir.path().join(file(node));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "0\n").unwrap();
        }
        dir
    }

    #[test]
    fn hugepages_are_made_on_the_nodes_and_kept() {
        let dir = host();
        let said = hugepages(dir.path(), 512, None, false).unwrap();
        assert!(said.contains("node 0: 512") && said.contains("node 1: 512"), "{said}");
        assert!(!dir.path().join(KEPT).exists());
        hugepages(dir.path(), 64, Some(1), true).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(file(0))).unwrap(), "512");
        let kept = fs::read_to_string(dir.path().join(KEPT)).unwrap();
        assert_eq!(kept, format!("w /{} - - - - 64\n", file(1).display()));
    }

    #[test]
    fn a_node_that_is_not_there_is_named_with_those_that_are() {
        let said = hugepages(host().path(), 1, Some(7), false).unwrap_err().text();
        assert!(said.contains("[0, 1]"), "{said}");
    }
}
