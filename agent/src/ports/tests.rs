use std::cell::RefCell;

use super::*;

const PORTS: u32 = PORTS_A_BLOCK as u32;

/// Pools whose ports are taken and given back by hand.
#[derive(Default)]
struct Fake(RefCell<BTreeMap<Dvipa, Pool>>);

impl Fake {
    fn change(&self, dvipa: Dvipa, change: impl FnOnce(&mut Pool)) {
        change(self.0.borrow_mut().get_mut(&dvipa).expect("a pool"));
    }
}

impl Pools for Fake {
    fn pool(&self, dvipa: Dvipa) -> Option<Pool> {
        self.0.borrow().get(&dvipa).copied()
    }

    fn make(&self, dvipa: Dvipa) {
        self.0.borrow_mut().insert(dvipa, Pool::default());
    }

    fn grant(&self, dvipa: Dvipa, block: u16) {
        self.change(dvipa, |pool| {
            pool.granted.insert(block);
            pool.left += PORTS;
        });
    }

    fn withdraw(&self, dvipa: Dvipa, block: u16) -> bool {
        self.change(dvipa, |pool| {
            pool.granted.remove(block);
            pool.left -= PORTS;
        });
        true
    }

    fn revoke(&self, dvipa: Dvipa, block: u16) {
        self.withdraw(dvipa, block);
    }

    fn set_elsewhere(&self, dvipa: Dvipa, elsewhere: &PortBlocks) {
        self.change(dvipa, |pool| pool.elsewhere = *elsewhere);
    }

    fn set_low(&self, _: Dvipa, _: u32) {}
}

fn dvipa() -> Dvipa {
    Dvipa::new([198, 18, 9, 1].into())
}

fn stack(name: &str) -> StackName {
    name.parse().unwrap()
}

/// `rt1` owns the DVIPA in this epoch, `rt2` is a backup for it.
fn listed(ports: &mut Ports, epoch: u64) {
    let (owner, backup) = (stack("rt1"), stack("rt2"));
    let of = |stack, epoch, owner| Listing { stack, dvipa: dvipa(), epoch: Epoch(epoch), owner };
    ports.listed([of(&owner, epoch, true), of(&backup, 0, false)].into_iter());
}

fn grant(ports: &mut Ports, pools: &Fake, number: u64, granted: std::ops::Range<u16>) {
    let granted = PortsGranted {
        dvipa: Address(dvipa().address()),
        epoch: Epoch(7),
        number,
        granted: granted.collect(),
        elsewhere: [900].into_iter().collect(),
    };
    ports.granted(&stack("rt1"), &granted, pools);
}

/// To whom, how many blocks are held, how many are wanted, and which grant was read.
fn said(ports: &mut Ports, pools: &Fake) -> Vec<(String, u16, u16, u64)> {
    let messages = ports.say(pools).into_iter().map(|(to, message)| {
        let FromStack::PortsHeld(held) = message else { panic!("{message:?}") };
        (to.to_string(), held.held.len(), held.wanted, held.read)
    });
    messages.collect()
}

fn to(stack: &str, held: u16, wanted: u16, read: u64) -> (String, u16, u16, u64) {
    (stack.to_owned(), held, wanted, read)
}

/// With 16 blocks, of which both routing stacks know.
fn bench() -> (Ports, Fake) {
    let (mut ports, pools) = (Ports::default(), Fake::default());
    listed(&mut ports, 7);
    assert_eq!(said(&mut ports, &pools), [to("rt1", 0, 1, 0)]);
    assert_eq!(said(&mut ports, &pools), [], "once");
    grant(&mut ports, &pools, 1, 16..32);
    assert_eq!(said(&mut ports, &pools), [to("rt1", 16, 0, 1), to("rt2", 16, 0, 0)]);
    (ports, pools)
}

#[test]
fn the_owner_is_asked_and_the_backup_told() {
    let (_, pools) = bench();
    let pool = pools.pool(dvipa()).unwrap();
    assert_eq!((pool.left, pool.elsewhere.contains(900)), (16 * PORTS, true));
}

#[test]
fn with_less_than_half_left_as_many_again_are_asked_for() {
    let (mut ports, pools) = bench();
    pools.change(dvipa(), |pool| pool.left = 8 * PORTS);
    assert_eq!(said(&mut ports, &pools), []);
    pools.change(dvipa(), |pool| pool.left -= 1);
    assert_eq!(said(&mut ports, &pools), [to("rt1", 16, 16, 1)]);
    grant(&mut ports, &pools, 2, 16..48);
    assert_eq!(said(&mut ports, &pools), [to("rt1", 32, 0, 2), to("rt2", 32, 0, 0)]);
}

#[test]
fn half_is_given_back_while_hardly_any_is_in_use() {
    let (mut ports, pools) = bench();
    grant(&mut ports, &pools, 2, 16..116);
    ports.give_back(&pools);
    assert_eq!(pools.pool(dvipa()).unwrap().granted.len(), 50);
    (0..9).for_each(|_| ports.give_back(&pools));
    assert_eq!(pools.pool(dvipa()).unwrap().granted.len(), KEPT);
    assert_eq!(said(&mut ports, &pools), [to("rt1", KEPT, 0, 2)], "the backup was told of these before");
}

#[test]
fn what_is_being_given_back_is_not_taken_again_by_a_word_about_others() {
    let (mut ports, pools) = bench();
    grant(&mut ports, &pools, 2, 16..116);
    ports.give_back(&pools);
    // Sent before the owner heard of that: it has the number of the last grant.
    grant(&mut ports, &pools, 2, 16..116);
    assert_eq!(pools.pool(dvipa()).unwrap().granted.len(), 50);
}

#[test]
fn what_is_in_use_is_kept() {
    let (mut ports, pools) = bench();
    grant(&mut ports, &pools, 2, 16..116);
    pools.change(dvipa(), |pool| pool.left = 80 * PORTS);
    ports.give_back(&pools);
    assert_eq!(pools.pool(dvipa()).unwrap().granted.len(), 100);
}

#[test]
fn a_new_session_and_a_new_epoch_begin_with_all_that_is_held() {
    let (mut ports, pools) = bench();
    ports.session_over(&stack("rt1"));
    listed(&mut ports, 7);
    assert_eq!(said(&mut ports, &pools), [to("rt1", 16, 0, 0)]);
    grant(&mut ports, &pools, 1, 16..32);
    said(&mut ports, &pools);
    listed(&mut ports, 8);
    assert_eq!(said(&mut ports, &pools), [to("rt1", 16, 0, 1)], "what was read in the session was read");
    listed(&mut ports, 8);
    assert_eq!(said(&mut ports, &pools), [], "nothing is new");
}

#[test]
fn what_is_not_granted_any_more_is_not_used_any_more() {
    let (mut ports, pools) = bench();
    grant(&mut ports, &pools, 2, 20..32);
    assert_eq!(pools.pool(dvipa()).unwrap().granted.iter().collect::<Vec<_>>(), (20..32).collect::<Vec<_>>());
}
