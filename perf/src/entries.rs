//! The CRT's part of what the control thread does, as `batond` does it. Without the feature `dpdk` it is left out.

#[cfg(feature = "dpdk")]
pub(crate) use table::Entries;

#[cfg(feature = "dpdk")]
mod table {
    use std::time::Instant;

    use control::runtime::Account;
    use forwarder::Now;
    use forwarder::crt::{Config, Crt};
    use model::dpt::Dpt;
    use model::{Connection, StackIndex};
    use plane::forwarding::Connections;

    /// A CRT, and what the control thread knows of its entries.
    pub(crate) struct Entries {
        crt: Crt,
        connections: Connections,
        start: Instant,
    }

    impl Entries {
        /// The part of the rows' notes that says what is measured.
        pub(crate) const MEASURED: &str = "the machine's and the CRT's part";

        /// Room for so many.
        pub(crate) fn new(connections_v4: usize) -> Self {
            let config = Config { connections_v4, connections_v6: 0, flows: 1024, ..Config::default() };
            let crt =
                Crt::new(&config).unwrap_or_else(|e| panic!("memory for {connections_v4} entries: {e}"));
            Self { crt, connections: Connections::new(Now { ms: 1000 }), start: Instant::now() }
        }

        fn now(&self) -> Now {
            Now { ms: 1000 + self.start.elapsed().as_millis() as u64 }
        }

        pub(crate) fn publish(&mut self, dpt: &Dpt) {
            self.connections.publish(dpt);
        }

        pub(crate) fn newconn(&mut self, owner: StackIndex, named: &[Connection], first: bool, last: bool) {
            let now = self.now();
            let account = Account { first, last, earlier: false };
            self.connections.newconn(&self.crt, owner, named, account, &[], now);
        }

        pub(crate) fn termconn(&mut self, owner: StackIndex, named: &[Connection]) {
            let now = self.now();
            self.connections.termconn(&self.crt, owner, named, now);
        }

        /// What follows with each tick; `true`: something is looked for in the whole table still.
        pub(crate) fn tick(&mut self) -> bool {
            let now = self.now();
            self.connections.step(&self.crt, u64::MAX, now);
            self.connections.looks()
        }

        /// How many connections a stack has.
        pub(crate) fn count(&self, stack: StackIndex) -> u64 {
            self.crt.stack_count(stack).connections.into()
        }
    }
}

#[cfg(not(feature = "dpdk"))]
mod without {
    use model::dpt::Dpt;
    use model::{Connection, StackIndex};

    /// Nothing.
    pub(crate) struct Entries;

    impl Entries {
        /// The part of the rows' notes that says what is measured.
        pub(crate) const MEASURED: &str = "the machine's part; without libdpdk the CRT's is left out";

        pub(crate) fn new(_: usize) -> Self {
            Self
        }

        pub(crate) fn publish(&mut self, _: &Dpt) {}

        pub(crate) fn newconn(&mut self, _: StackIndex, _: &[Connection], _: bool, _: bool) {}

        pub(crate) fn termconn(&mut self, _: StackIndex, _: &[Connection]) {}

        pub(crate) fn tick(&mut self) -> bool {
            false
        }

        pub(crate) fn count(&self, _: StackIndex) -> u64 {
            0
        }
    }
}

#[cfg(not(feature = "dpdk"))]
pub(crate) use without::Entries;
