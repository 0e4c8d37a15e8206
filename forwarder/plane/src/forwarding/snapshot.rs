//! What the workers read and the control thread replaces as a whole, and when the old one can be freed.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// Replaced values that a worker may still have. They are freed here, on the control thread, because a worker that
/// let go of the last reference would run the allocator.
#[derive(Debug)]
pub(super) struct Snapshots<T> {
    replaced: Vec<Arc<T>>,
}

impl<T> Default for Snapshots<T> {
    fn default() -> Self {
        Self { replaced: Vec::new() }
    }
}

impl<T> Snapshots<T> {
    pub(super) fn replace(&mut self, current: &ArcSwap<T>, value: T) {
        self.replaced.push(current.swap(Arc::new(value)));
        self.free();
    }

    /// The replaced values that a worker may still have.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &T> {
        self.replaced.iter().map(Arc::as_ref)
    }

    /// Frees what no worker has any more. A count of 1 is final: the workers get references only from what is current.
    pub(super) fn free(&mut self) {
        self.replaced.retain(|value| Arc::strong_count(value) > 1);
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::cache::Cache;
    use forwarder::{Fence, Looks, Mac, Neighbours, Node, Tables};
    use model::ClusterAddress;
    use model::dpt::Dpt;

    use super::*;

    fn tables(generation: u64) -> Tables {
        let cluster_address = ClusterAddress { v4: Some([198, 18, 0, 10].into()), v6: None };
        let node = Node {
            mac: Mac::default(),
            cluster_address,
            fabric_mtu: 1500,
            vlan: None,
            fence: Fence::default(),
            looks: Looks::default(),
        };
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
