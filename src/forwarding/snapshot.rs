//! Tables for the workers, and when the old ones can be freed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use forwarder::Tables;

/// Replaced tables that a worker may still have. They are freed here, on the control thread, because a worker that
/// let go of the last reference would run the allocator.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    replaced: Vec<Arc<Tables>>,
}

impl Snapshots {
    pub(super) fn replace(&mut self, current: &ArcSwap<Tables>, tables: Tables) {
        self.replaced.push(current.swap(Arc::new(tables)));
        self.free();
    }

    /// Frees what no worker has any more. A count of 1 is final: the workers get references only from what is current.
    pub(super) fn free(&mut self) {
        self.replaced.retain(|tables| Arc::strong_count(tables) > 1);
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::cache::Cache;
    use forwarder::{Mac, Neighbours, Node};
    use model::ClusterAddress;
    use model::dpt::Dpt;

    use super::*;

    fn tables(generation: u64) -> Tables {
        let cluster_address = ClusterAddress { v4: Some([198, 18, 0, 10].into()), v6: None };
        let node = Node { mac: Mac::default(), cluster_address, fabric_mtu: 1500, vlan: None };
        Tables::build(&Dpt { generation, ..Dpt::default() }, &Neighbours::new(), &node)
    }

    #[test]
    fn old_tables_live_until_the_last_worker_has_seen_new_ones() {
        let current = ArcSwap::from_pointee(tables(1));
        let mut worker = Cache::new(&current);
        let mut snapshots = Snapshots::default();
        assert_eq!(worker.load().generation(), 1);
        snapshots.replace(&current, tables(2));
        assert_eq!(snapshots.replaced.len(), 1);
        assert_eq!(worker.load().generation(), 2);
        snapshots.free();
        assert_eq!(snapshots.replaced.len(), 0);
    }
}
