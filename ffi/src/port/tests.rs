use std::sync::{Mutex, MutexGuard, OnceLock};

use super::*;
use crate::eal::Arguments;
use crate::mbuf::{BURST, Burst};

/// DPDK is started once for all tests of this process, with one worker.
fn dpdk() -> MutexGuard<'static, (Eal, Mempool)> {
    static DPDK: OnceLock<Mutex<(Eal, Mempool)>> = OnceLock::new();
    let start = || {
        let extra = ["--no-huge", "--no-pci", "-m", "64"].map(str::to_owned).to_vec();
        let arguments = Arguments { control_core: 0, worker_cores: vec![0], extra, ..Default::default() };
        let (eal, _lcores) = Eal::start(&arguments).expect("DPDK starts without hugepages and devices");
        let pool = Mempool::create(eal, "test", 4095, 2048, None).expect("64 MB hold the pool");
        Mutex::new((eal, pool))
    };
    DPDK.get_or_init(start).lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const SMALL: Settings =
    Settings { queues: 1, mtu: 1500, rx_descriptors: 256, tx_descriptors: 256, promiscuous: false };

#[test]
fn packets_that_are_sent_on_a_ring_come_back_and_every_buffer_is_freed() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let free = pool.free();
    let (_port, mut queues) = Device::open(eal, "net_ring0").unwrap().start(&SMALL, pool).unwrap();
    let (rx, tx) = queues.first_mut().unwrap();
    let mut burst = Burst::new();
    burst.push(pool.packet(b"one").unwrap());
    burst.push(pool.packet(b"three").unwrap());
    assert_eq!(tx.send(&mut burst), 0);
    assert!(burst.is_empty());
    assert_eq!(rx.receive(&mut burst), 0);
    assert_eq!(burst.iter().map(|p| p.bytes()).collect::<Vec<_>>(), [&b"one"[..], b"three"]);
    drop(burst);
    drop(queues);
    assert_eq!(pool.free(), free);
}

#[test]
fn a_tag_that_the_device_took_off_is_back_in_its_place_once() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let (_port, mut queues) = Device::open(eal, "net_ring2").unwrap().start(&SMALL, pool).unwrap();
    let (rx, tx) = queues.first_mut().unwrap();
    let mut burst = Burst::new();
    let mut packet = pool.packet(b"DDDDDDSSSSSS\x08\x00payload").unwrap();
    packet.mark_stripped(0x2005);
    burst.push(packet);
    burst.push(pool.packet(b"DDDDDDSSSSSS\x08\x00payload").unwrap());
    // What is received again has no tag to put back any more.
    for _ in 0..2 {
        assert_eq!(tx.send(&mut burst), 0);
        assert_eq!(rx.receive(&mut burst), 0);
        let [tagged, untagged] = &burst[..] else { panic!("{burst:?}") };
        assert_eq!(tagged.bytes(), b"DDDDDDSSSSSS\x81\x00\x20\x05\x08\x00payload");
        assert_eq!(untagged.bytes(), b"DDDDDDSSSSSS\x08\x00payload");
    }
}

#[test]
fn only_a_checksum_that_the_device_found_right_is_right() {
    let guard = dpdk();
    let mut packet = guard.1.packet(b"packet").unwrap();
    assert!(!packet.ipv4_checksum_is_right(), "nobody has looked");
    let (good, mask) = (raw::SHIM_RX_IPV4_CHECKSUM_GOOD, raw::SHIM_RX_IPV4_CHECKSUM_MASK);
    packet.mark(good | raw::SHIM_RX_VLAN_STRIPPED);
    assert!(packet.ipv4_checksum_is_right());
    // Any other of the flags: it is wrong, that of an outer header is, or the device says that it could not tell.
    for others in (0..64).map(|bit| mask & 1 << bit).filter(|flag| *flag & !good != 0) {
        packet.mark(others);
        assert!(!packet.ipv4_checksum_is_right(), "{others:#x}");
        packet.mark(good | others);
        assert!(!packet.ipv4_checksum_is_right(), "{others:#x} too");
    }
}

#[test]
fn what_a_device_does_not_offer_is_not_asked_of_it() {
    let guard = dpdk();
    let mut info = Device::open(guard.0, "net_null9").unwrap().info().clone();
    assert!(!info.ipv4_checksums, "net_null has no such offload");
    assert_eq!(configuration(&SMALL, SMALL.queues, &info).rxmode.offloads, 0);
    info.ipv4_checksums = true;
    assert_eq!(configuration(&SMALL, SMALL.queues, &info).rxmode.offloads, raw::SHIM_RX_IPV4_CHECKSUM);
}

#[test]
fn a_port_that_dpdk_has_already_is_taken_over() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let name = DeviceName::new("net_null7");
    let id = probe(&name).unwrap();
    let device = Device::open(eal, "net_null7").unwrap();
    assert_eq!(device.opened.id, id);
    assert!(matches!(Device::open(eal, "vdev:net_null7"), Err(Error::InUse(_))), "it is open by now");
    drop(device.start(&SMALL, pool).unwrap());
    Device::open(eal, "net_null7").expect("nobody has it any more");
}

#[test]
fn a_buffer_holds_a_frame_at_the_hardwares_granularity() {
    let guard = dpdk();
    let mut info = Device::open(guard.0, "net_null8").unwrap().info().clone();
    assert_eq!([1526, 9026, 65_535].map(|frame| info.buffer_bytes(frame)), [2048, 9216, 63 << 10]);
    info.driver = "net_e1000_em".to_owned();
    assert_eq!([1526, 9026].map(|frame| info.buffer_bytes(frame)), [2048, 16_384]);
}

#[test]
fn what_a_device_does_not_take_is_counted_and_freed() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let free = pool.free();
    let (_port, mut queues) = Device::open(eal, "net_ring1").unwrap().start(&SMALL, pool).unwrap();
    let (rx, tx) = queues.first_mut().unwrap();
    let mut left = 0;
    for _ in 0..64 {
        let mut burst: Burst = (0..32).map(|_| pool.allocate().unwrap()).collect();
        left += tx.send(&mut burst);
    }
    let mut received = 0;
    loop {
        let mut burst = Burst::new();
        rx.receive(&mut burst);
        if burst.is_empty() {
            break;
        }
        received += burst.len();
    }
    assert!(left > 0, "a ring of 1024 places took 2048 packets");
    assert_eq!(left + received, 64 * 32);
    assert_eq!(pool.free(), free);
}

#[test]
fn a_null_port_fills_every_burst_and_swallows_it() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let (port, mut queues) = Device::open(eal, "net_null0,size=64").unwrap().start(&SMALL, pool).unwrap();
    let (rx, tx) = queues.first_mut().unwrap();
    let mut burst = Burst::new();
    rx.receive(&mut burst);
    assert_eq!(burst.len(), BURST);
    rx.receive(&mut burst);
    assert_eq!(burst.len(), BURST, "a full burst has no room");
    assert_eq!(tx.send(&mut burst), 0);
    assert_eq!((port.counters().received, port.counters().sent), (BURST as u64, BURST as u64));
    assert!(port.link_is_up());
}

#[test]
fn too_few_queues_name_the_port_and_its_limit() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let settings = Settings { queues: 2000, ..SMALL };
    let error = Device::open(eal, "net_null3").unwrap().start(&settings, pool).unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.contains("net_null3") && sentence.contains("at most 1024 receive queues"), "{sentence}");
}

#[test]
fn an_impossible_mtu_is_refused_with_the_limits() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let settings = Settings { mtu: 20, ..SMALL };
    let error = Device::open(eal, "net_null1").unwrap().start(&settings, pool).unwrap_err();
    assert!(matches!(error, Error::Mtu { mtu: 20, min: 46, .. }), "{error}");
}

#[test]
fn a_device_is_opened_once_and_again_after_it_was_closed() {
    let guard = dpdk();
    let (eal, _) = *guard;
    let device = Device::open(eal, "net_null2").unwrap();
    assert!(matches!(Device::open(eal, "net_null2"), Err(Error::InUse(_))));
    drop(device);
    assert!(Device::open(eal, "net_null2").is_ok());
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    let guard = dpdk();
    let (eal, _) = *guard;
    let error = Device::open(eal, "net_nonsense0").unwrap_err();
    assert!(error.to_string().contains("net_nonsense0"), "{error}");
}

#[test]
fn dpdk_starts_once_and_has_one_pool() {
    let guard = dpdk();
    let (eal, _) = *guard;
    assert!(matches!(Mempool::create(eal, "second", 1, 2048, None), Err(Error::SecondPool)));
    assert!(matches!(Eal::start(&Arguments::default()), Err(Error::StartedBefore)));
}

#[test]
fn a_packet_grows_and_shrinks_inside_of_its_buffer_only() {
    const ALL: usize = usize::MAX;
    let guard = dpdk();
    let (_, pool) = *guard;
    let mut packet = pool.packet(b"abcdef").unwrap();
    assert!(packet.reframe(0, 128, ALL) && !packet.reframe(0, 1, ALL), "the headroom is 128 bytes");
    assert_eq!(packet.bytes().len(), 134);
    assert!(packet.reframe(129, 0, ALL) && !packet.reframe(6, 0, ALL));
    assert_eq!(packet.bytes(), b"bcdef");
    assert!(packet.reframe(0, 0, 3) && packet.reframe(0, 0, 100));
    assert_eq!(packet.bytes(), b"bcd");
    assert!(!packet.extend(2048) && !packet.extend(usize::MAX) && packet.extend(2048 - 1 - 3));
}

#[test]
fn a_port_reads_and_writes_capture_files() {
    let guard = dpdk();
    let (eal, pool) = *guard;
    let directory = tempfile::tempdir().unwrap();
    let (out, again) = (directory.path().join("out.pcap"), directory.path().join("again.pcap"));
    let device = format!("net_pcap0,tx_pcap={}", out.display());
    let (_port, mut queues) = Device::open(eal, &device).unwrap().start(&SMALL, pool).unwrap();
    let mut burst: Burst = [&[7u8; 60][..], &[8; 61]].into_iter().map(|b| pool.packet(b).unwrap()).collect();
    assert_eq!(queues[0].1.send(&mut burst), 0);
    drop(queues);
    drop(_port);
    let device = format!("net_pcap1,rx_pcap={},tx_pcap={}", out.display(), again.display());
    let (_port, mut queues) = Device::open(eal, &device).unwrap().start(&SMALL, pool).unwrap();
    queues[0].0.receive(&mut burst);
    assert_eq!(burst.iter().map(|p| p.bytes()).collect::<Vec<_>>(), [&[7u8; 60][..], &[8; 61]]);
}
