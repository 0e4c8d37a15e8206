//! Sends each client to the target that the cluster chooses.

use std::net::TcpListener;
use std::time::Duration;

use baton_app::{Choice, Registration, RoutingApplication, Terms, wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = RoutingApplication::register(&Registration::new("router", "198.18.9.1".parse()?, &[80])?)?;
    let terms = Terms::new().unacknowledged(wait(Duration::from_secs(1)));
    for client in TcpListener::bind("198.18.9.1:80")?.incoming() {
        let client = client?;
        let target = router.choose(80, client.peer_addr()?, &Choice::all())?;
        if let Err(refused) = router.transfer(client, &target, &terms) {
            eprintln!("{target}: {refused}"); // and refused.stream is the client, here as before
        }
    }
    Ok(())
}
