//! The calls for programs on tokio, on a stack of one host.

#[allow(dead_code)]
mod fixture;

use std::future::Future;
use std::time::Duration;

use baton_app::asynchronous::{RoutingApplication, TargetApplication};
use baton_app::{Choice, Error, JobName, Refusal, Terms};
use fixture::{Client, Host, target};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

fn on_tokio<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(Duration::from_secs(20), test).await.expect("it hangs") })
}

async fn router(host: &Host) -> RoutingApplication {
    RoutingApplication::register(&host.registration("router")).await.expect("registered")
}

async fn counter(host: &Host) -> TargetApplication {
    TargetApplication::register(&host.registration("counter")).await.expect("registered")
}

fn connect(host: &Host) -> (Client, TcpStream) {
    let (client, stream) = host.connect();
    stream.set_nonblocking(true).expect("set");
    (client, TcpStream::from_std(stream).expect("in a runtime"))
}

/// C7, C8, C9
#[test]
fn a_connection_is_rejected_and_moves_then() {
    let host = Host::start();
    on_tokio(async {
        let (router, counter) = (router(&host).await, counter(&host).await);
        let (mut client, stream) = connect(&host);
        let (to, terms) = (target("counter"), Terms::new().state(b"7"));
        let reject = async { counter.next_offer().await.expect("offered").reject("full").await };
        let (failed, _) = tokio::join!(router.transfer(stream, &to, &terms), reject);
        let failed = failed.expect_err("rejected");
        assert_eq!(failed.error.refusal(), Some(Refusal::Rejected));

        let accept = async { counter.next_offer().await.expect("offered").accept().await.expect("accepted") };
        let (moved, mut connection) = tokio::join!(router.transfer(failed.stream, &to, &terms), accept);
        moved.expect("moved");
        assert_eq!(connection.state.as_deref(), Some(&b"7"[..]));
        assert_eq!(connection.client, client.address());
        connection.stream.write_all(b"hello\n").await.expect("said");
        assert_eq!(client.hear(), "hello");
    });
}

/// C2, C10
#[test]
fn targets_are_told_and_given_connections_taken() {
    let host = Host::start();
    on_tokio(async {
        let router = router(&host).await;
        assert_eq!(router.targets(host.port()).await.expect("known"), []);
        let (changed, counter) = tokio::join!(router.targets_beyond(host.port(), &[]), counter(&host));
        assert_eq!(changed.expect("told"), [target("counter")]);
        let (_client, stream) = connect(&host);
        let to = target("counter");
        // A task that gives up waiting takes nothing away from the next one.
        assert!(timeout(Duration::from_millis(5), counter.take_connection()).await.is_err());
        router.give_connection(stream, &to, &Terms::new()).await.expect("given");
        counter.take_connection().await.expect("taken");
    });
}

/// C11
#[test]
fn a_complete_connection_comes_back() {
    let host = Host::start();
    on_tokio(async {
        let (router, counter) = (router(&host).await, counter(&host).await);
        let (mut client, stream) = connect(&host);
        let to = target("counter");
        let terms = Terms::new();
        // From now on it takes offers.
        router.descriptor();
        let serve = async {
            let connection = counter.next_offer().await.expect("offered").accept().await.expect("accepted");
            counter.complete(connection.stream, &terms).await.expect("complete");
        };
        let back = async {
            router.transfer(stream, &to, &terms).await.expect("moved");
            router.next_offer().await.expect("offered").accept().await.expect("accepted")
        };
        let (_, mut connection) = tokio::join!(serve, back);
        connection.stream.write_all(b"again\n").await.expect("said");
        assert_eq!(client.hear(), "again");
    });
}

#[test]
fn an_offer_that_is_dropped_is_rejected() {
    let host = Host::start();
    on_tokio(async {
        let (router, counter) = (router(&host).await, counter(&host).await);
        let (_client, stream) = connect(&host);
        let (to, terms) = (target("counter"), Terms::new());
        let drop_it = async { drop(counter.next_offer().await.expect("offered")) };
        let (failed, ()) = tokio::join!(router.transfer(stream, &to, &terms), drop_it);
        assert_eq!(failed.expect_err("rejected").error.refusal(), Some(Refusal::Rejected));
    });
}

/// A transfer whose agent ends is asked about at the next one; here it has not moved, so that it is begun anew.
#[test]
fn a_transfer_survives_the_end_of_its_agent() {
    let mut host = Host::start();
    on_tokio(async {
        let (router, counter) = (router(&host).await, counter(&host).await);
        let (mut client, stream) = connect(&host);
        let (to, terms, port) = (target("counter"), Terms::new(), host.port());
        let serve = async {
            let void = counter.next_offer().await.expect("offered");
            host.restart(|| {});
            assert!(matches!(void.accept().await, Err(Error::Closed)), "it goes on where it was");
            counter.next_offer().await.expect("offered again").accept().await.expect("accepted")
        };
        let moves = async {
            match router.transfer(stream, &to, &terms).await {
                Ok(()) => {}
                // The target had not registered again when the transfer was begun anew.
                Err(failed) => {
                    assert_eq!(failed.error.refusal(), Some(Refusal::UnknownTarget), "{failed}");
                    router.targets_beyond(port, &[]).await.expect("told");
                    router.transfer(failed.stream, &to, &terms).await.expect("moved");
                }
            }
        };
        let (mut connection, ()) = tokio::join!(serve, moves);
        connection.stream.write_all(b"still here\n").await.expect("said");
        assert_eq!(client.hear(), "still here");
    });
}

#[test]
fn applications_register_again_without_a_call() {
    let mut host = Host::start();
    on_tokio(async {
        let (router, counter) = (router(&host).await, counter(&host).await);
        for _ in 0..3 {
            host.restart(|| {});
            let (_client, stream) = connect(&host);
            let port = host.port();
            let moved = async {
                assert_eq!(router.targets_beyond(port, &[]).await.expect("told"), [target("counter")]);
                router.transfer(stream, &target("counter"), &Terms::new()).await.expect("moved");
            };
            let serve =
                async { counter.next_offer().await.expect("offered").accept().await.expect("accepted") };
            let ((), connection) = tokio::join!(moved, serve);
            drop(connection);
            assert_eq!(router.stack().await.expect("known").as_str(), "here");
        }
    });
}

#[test]
fn many_tasks_share_one_control_socket() {
    const CLIENTS: usize = 100;
    let host = Host::start();
    on_tokio(async {
        let (router, counter) = (router(&host).await, counter(&host).await);
        let to = target("counter");
        let serve = async {
            for _ in 0..CLIENTS {
                let connection =
                    counter.next_offer().await.expect("offered").accept().await.expect("accepted");
                let state = connection.state.expect("state");
                let mut stream = connection.stream;
                stream.write_all(&[&state[..], b"\n"].concat()).await.expect("said");
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|i| (i.to_string(), connect(&host))).collect();
        let moves = clients.into_iter().map(|(state, (client, stream))| async {
            let terms = Terms::new().state(state.as_bytes());
            router.transfer(stream, &to, &terms).await.expect("moved");
            (state, client)
        });
        let moves = moves.fold(
            Box::pin(async { Vec::new() }) as std::pin::Pin<Box<dyn Future<Output = Vec<_>>>>,
            |before, next| {
                Box::pin(async {
                    let (mut before, next) = tokio::join!(before, next);
                    before.push(next);
                    before
                })
            },
        );
        let (moved, ()) = tokio::join!(moves, serve);
        for (state, mut client) in moved {
            assert_eq!(client.hear(), state);
        }
    });
}

/// C16
#[test]
fn a_target_is_chosen_and_shown() {
    let host = Host::start();
    on_tokio(async {
        let (router, _counter) = (router(&host).await, counter(&host).await);
        let (client, _stream) = connect(&host);
        let (port, jobs) = (host.port(), [JobName::new("counter").expect("a name")]);
        let chosen = router.choose(port, client.address(), &Choice::of(&jobs)).await;
        assert_eq!(chosen.expect("chosen"), target("counter"));
        let besides = [target("counter")];
        let none = router.choose(port, client.address(), &Choice::all().besides(&besides)).await;
        assert_eq!(none.expect_err("nothing is left").refusal(), Some(Refusal::NoTarget));
        let views = router.target_views(port).await.expect("shown");
        assert_eq!(
            views.iter().map(|v| (&v.target, v.weight)).collect::<Vec<_>>(),
            [(&target("counter"), 1)]
        );
    });
}
