use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use etherparse::PacketBuilder;
use ffi::eal::Arguments;
use ffi::{Device, Eal, Mempool, Settings, TxQueue};
use forwarder::tables::Family;
use forwarder::trace::Filter;
use forwarder::{Fence, Looks, Mac, Neighbours, Node, Reason, Sink, Verdict};
use model::dpt::{
    Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, StackEntry, StackState,
    WeightedTarget,
};
use model::{ClusterAddress, Dvipa, DvipaIndex, Protocol, StackIndex, StackName};

use super::inbox::{Frame, To};
use super::replay::replay;
use super::*;

const NODE: [u8; 6] = [2, 0, 0, 0, 0, 10];
const TARGET: [u8; 6] = [2, 0, 0, 0, 0, 21];
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// DPDK is started once for all tests of this process.
fn dpdk() -> MutexGuard<'static, (Eal, Mempool, Option<ffi::Lcore>)> {
    type Dpdk = (Eal, Mempool, Option<ffi::Lcore>);
    static DPDK: OnceLock<Mutex<Dpdk>> = OnceLock::new();
    let start = || {
        let extra = ["--no-huge", "--no-pci", "-m", "64"].map(str::to_owned).to_vec();
        let arguments = Arguments { control_core: 0, worker_cores: vec![0], extra, ..Default::default() };
        let (eal, mut lcores) = Eal::start(&arguments).expect("DPDK starts without hugepages and devices");
        let pool = Mempool::create(eal, "test", 8191, 2048, None).expect("64 MB hold the pool");
        Mutex::new((eal, pool, lcores.pop()))
    };
    DPDK.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
}

/// One queue pair of a device.
fn open(eal: Eal, device: &str, pool: Mempool) -> (RxQueue, TxQueue) {
    let settings = Settings { rx_descriptors: 256, tx_descriptors: 256, ..Settings::default() };
    Device::open(eal, device).unwrap().start(&settings, pool).unwrap().1.pop().unwrap()
}

fn line(nic: TxQueue, local: TxQueue, pool: Mempool) -> (Line, Arc<Counters>, Arc<Gauges>) {
    let (counters, gauges) = (Arc::new(Counters::new()), Arc::new(Gauges::default()));
    let output = Output::new(nic, local, pool, Arc::clone(&gauges));
    (Line::new(Limits::default(), Arc::clone(&counters), output, Arc::clone(&gauges)), counters, gauges)
}

/// One DVIPA, port 80, one target on the segment.
fn tables() -> Tables {
    let (dvipa, stack) = (DvipaIndex(0), StackIndex(1));
    let address = |last| ClusterAddress { v4: Some([198, 18, 0, last].into()), v6: None };
    let dpt = Dpt {
        generation: 1,
        dvipas: vec![DvipaEntry::new(dvipa, Dvipa::new([198, 18, 9, 1].into())).into()],
        stacks: vec![StackEntry {
            index: stack,
            name: StackName::new("t1").unwrap(),
            reach: Reach::Remote { cluster_address: address(21), encapsulation: Encapsulation::L2 },
            state: StackState::Up,
        }]
        .into(),
        distributions: vec![
            Distribution {
                dvipa,
                port: 80,
                protocol: Protocol::Tcp,
                method: Method::RoundRobin,
                targets: vec![WeightedTarget { stack, weight: 1 }],
                serving: vec![stack],
                policies: vec![],
                refuse: Refuse::Reset,
                max_connections: None,
                affinity: None,
                limits: model::Limits::NONE,
                routing: None,
                quic: Default::default(),
            }
            .into(),
        ],
    };
    let mut neighbours = Neighbours::new();
    neighbours.set(stack, Family::V4, Mac(TARGET));
    let node = Node {
        mac: Mac(NODE),
        cluster_address: address(10),
        fabric_mtu: 1500,
        vlan: None,
        fence: Fence::default(),
        looks: Looks::default(),
    };
    Tables::build(&dpt, &neighbours, &node)
}

fn crt() -> Crt {
    let small = forwarder::crt::Config {
        connections_v4: 1024,
        connections_v6: 1024,
        half_open: 256,
        fragments: 256,
        ..Default::default()
    };
    Crt::new(&small).unwrap()
}

fn syn(destination: [u8; 4]) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(CLIENT, NODE).ipv4([198, 18, 0, 2], destination, 64).tcp(4000, 80, 7, 100);
    let mut bytes = Vec::new();
    builder.syn().write(&mut bytes, &[]).unwrap();
    bytes
}

#[test]
fn a_capture_is_replayed_until_it_is_drained() {
    let guard = dpdk();
    let (eal, pool, _) = *guard;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    {
        let (_, mut tx) = open(eal, &format!("net_pcap0,tx_pcap={}", path("in.pcap")), pool);
        let packets = [syn([198, 18, 9, 1]), syn([198, 18, 0, 10])];
        let mut burst: Burst = (0..50).map(|i| pool.packet(&packets[i % 2]).unwrap()).collect();
        assert_eq!(tx.send(&mut burst), 0);
    }
    let files = format!("rx_pcap={},tx_pcap={}", path("in.pcap"), path("nic.pcap"));
    let (mut rx, nic) = open(eal, &format!("net_pcap1,{files}"), pool);
    let (_rx, local) = open(eal, &format!("net_pcap2,tx_pcap={}", path("local.pcap")), pool);
    let (mut line, counters, gauges) = line(nic, local, pool);
    let packets = replay(&mut line, &mut rx, Port::Nic, &tables(), &crt(), Now::default);
    assert_eq!((packets, gauges.nic.sent.get(), gauges.local.sent.get()), (50, 25, 25));
    assert_eq!(counters.get(Reason::ForwardedNew), 1);
    assert_eq!(counters.get(Reason::Forwarded), 24);
    assert_eq!(counters.get(Reason::PassedToLocal), 25);
}

#[test]
fn a_worker_on_its_core_forwards_passes_on_and_injects() {
    let mut guard = dpdk();
    let (eal, pool) = (guard.0, guard.1);
    let free = pool.free();
    // What the worker sends on a ring comes back to itself.
    let ((nic, nic_tx), (local, local_tx)) = (open(eal, "net_ring0", pool), open(eal, "net_ring1", pool));
    let (line, counters, gauges) = line(nic_tx, local_tx, pool);
    let inbox = Arc::new(Inbox::new(pool));
    let shared = Arc::new(Shared {
        crt: crt(),
        tables: ArcSwap::from_pointee(tables()),
        handoffs: ArcSwap::default(),
        pools: ArcSwap::default(),
        trace: ArcSwap::from_pointee(Some(Trace::new(Filter::default(), 100))),
        clock: Clock::new(eal, 0),
        stop: AtomicBool::new(false),
    });
    let ours = syn([198, 18, 9, 1]);
    let frame = Frame { to: To::Port(Port::Nic), bytes: ours.iter().copied().collect() };
    assert!(inbox.put(frame));
    let inbox = Arc::clone(&inbox);
    let mut worker = Worker { number: 5, steered: None, nic, local, line, inbox, idle: Policy::Backoff };
    let running = {
        let shared = Arc::clone(&shared);
        let lcore = guard.2.take().expect("only this test uses the worker's core");
        lcore.launch(move || {
            worker.run(&shared);
            worker
        })
    };
    while counters.get(Reason::ForwardedNew) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    shared.stop.store(true, Ordering::Relaxed);
    let (worker, lcore) = running.unwrap().join();
    guard.2 = Some(lcore);
    assert!(gauges.turns.get() > 0 && gauges.busy_cycles.get() > 0 && gauges.nic.sent.get() > 1);
    let trace = shared.trace.load();
    let seen = trace.as_ref().as_ref().and_then(Trace::take).expect("a row");
    assert_eq!((seen.worker, seen.end()), (5, Some(Reason::ForwardedNew)), "who looks on sees it");
    let Worker { mut nic, mut local, line, .. } = worker;
    drop(line);
    let mut left = Burst::new();
    nic.receive(&mut left);
    local.receive(&mut left);
    drop(left);
    assert_eq!(pool.free(), free);
}

#[test]
fn what_goes_first_waits_for_room_at_the_local_port_and_the_rest_is_lost() {
    let guard = dpdk();
    let (eal, pool, _) = *guard;
    let ((_nic, nic), (mut queue, local)) = (open(eal, "net_ring2", pool), open(eal, "net_ring3", pool));
    let gauges = Arc::new(Gauges::default());
    let mut output = Output::new(nic, local, pool, Arc::clone(&gauges));
    let packet = |byte: u8| Packet(pool.packet(&[byte; 60]).unwrap());
    let to_local = Verdict::Send(Port::Local);
    while gauges.local.unsent.get() == 0 {
        output.give(packet(1), to_local);
        output.flush();
    }
    output.give(packet(3), to_local);
    output.give_first(packet(2));
    output.flush();
    assert_eq!(gauges.local.unsent.get(), 2, "what does not go first is lost");
    queue.receive(&mut Burst::new());
    output.give(packet(4), to_local);
    output.flush();
    let mut arrived = Vec::new();
    loop {
        let mut burst = Burst::new();
        queue.receive(&mut burst);
        if burst.is_empty() {
            break;
        }
        arrived.extend(burst.iter().map(|mbuf| mbuf.bytes()[0]));
    }
    assert_eq!(arrived[arrived.len() - 2..], [2, 4]);
    (0..BURST).for_each(|_| output.give_first(packet(5)));
    assert_eq!(gauges.local.unsent.get(), 2);
}

#[test]
fn a_queue_that_does_not_become_empty_presses_its_worker_for_a_while() {
    let mut load = Load::default();
    let now = |ms| Now { ms };
    // A full queue after a pause is none.
    assert!((0..1024 / BURST).all(|_| !load.is_pressed(true, now(1000))));
    assert!(!load.is_pressed(false, now(1000)));
    let pressed: Vec<_> = (0..30).map(|_| load.is_pressed(true, now(2000))).collect();
    assert_eq!(pressed.iter().position(|pressed| *pressed), Some(19));
    assert!(load.is_pressed(false, now(2099)) && !load.is_pressed(false, now(2100)));
}
