//! One control socket: its descriptor, its machine, and what waits to be sent.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use channel::AsyncChannel;
use model::control_socket::{MAX_MESSAGE_BYTES, Message, OfferId, Request};
use tokio::sync::{mpsc, watch};

use super::event::{ApplicationId, Command};
use super::inspect::{Namespace, inspect};
use super::limits::{MAX_UNSENT, MAX_UNSENT_BEFORE_HEARD, UNSENT_PAUSE};
use super::machine::{Action, Beside, Event, Machine};
use super::server::Note;

/// A control socket's task. All of it belongs to that task.
pub(super) struct Socket {
    pub(super) id: ApplicationId,
    pub(super) channel: AsyncChannel,
    pub(super) machine: Machine,
    pub(super) home: Namespace,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<Note>,
    /// `true` once the agent is ending.
    pub(super) stop: watch::Receiver<bool>,
}

/// What waits to be sent, oldest first.
type Unsent = VecDeque<(Vec<u8>, Beside)>;

impl Socket {
    /// Runs until the socket is over.
    pub(super) async fn run(mut self) {
        let mut unsent = Unsent::new();
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        while self.act(&mut unsent).await {
            let event = self.next(&mut unsent, &mut buffer).await;
            let is_full = unsent.len() >= MAX_UNSENT_BEFORE_HEARD;
            let is_lost = |event: &Event| is_full && matches!(event, Event::Command(Command::Heard { .. }));
            if let Some(event) = event.filter(|event| !is_lost(event)) {
                self.machine.handle(event, Instant::now());
            }
            if unsent.len() > MAX_UNSENT {
                unsent.clear();
                self.machine.handle(Event::Overflow, Instant::now());
            }
        }
        // The last words, if there is room for them. A connection that was not passed is not passed any more.
        for (datagram, beside) in unsent.into_iter().filter(|(_, b)| !matches!(b, Beside::Arriving(..))) {
            if self.channel.get_ref().send(&datagram, &descriptors(&beside)).is_err() {
                break;
            }
        }
    }

    /// Does what is to be done; `false` once the socket is over.
    async fn act(&mut self, unsent: &mut Unsent) -> bool {
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Tell(notification, beside) => match notification.encode() {
                    Ok(datagram) => unsent.push_back((datagram, beside)),
                    Err(cause) => tracing::error!(application = self.id.0, %cause, "not told"),
                },
                // The agent is gone if it does not take it, and everything is about to end.
                Action::Report(event) => drop(self.events.send(Note::Event(self.id, event)).await),
                Action::Close => return false,
            }
        }
        true
    }

    /// Waits for what happens next; `None`: something was sent or ignored.
    async fn next(&mut self, unsent: &mut Unsent, buffer: &mut [u8]) -> Option<Event> {
        let deadline = self.machine.next_deadline();
        let time = async {
            match deadline {
                Some((at, _)) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // Answers before questions: who asks without reading waits for himself.
            biased;
            _ = self.stop.wait_for(|stop| *stop) => Some(Event::Stop),
            sent = send(&self.channel, unsent), if !unsent.is_empty() => match sent {
                Ok(sent) => sent.map(Event::Sent),
                Err(_) => Some(Event::Closed),
            },
            command = self.commands.recv() => Some(command.map_or(Event::Overflow, Event::Command)),
            () = time => Some(Event::TimePassed),
            received = receive(&self.channel, buffer, self.home), if unsent.len() < UNSENT_PAUSE => {
                received.unwrap_or(Some(Event::Closed))
            }
        }
    }
}

async fn receive(channel: &AsyncChannel, buffer: &mut [u8], home: Namespace) -> io::Result<Option<Event>> {
    let Some(received) = channel.receive(buffer).await? else { return Ok(Some(Event::Closed)) };
    let datagram = buffer.get(..received.bytes).filter(|_| !received.cut);
    Ok(match datagram.map(Request::decode) {
        Some(Ok(Some(request))) => Some(Event::Received(request, inspect(received, home))),
        Some(Ok(None)) => None,
        Some(Err(_)) | None => Some(Event::Malformed),
    })
}

/// Sends the oldest message: the offer whose connection went with it.
async fn send(channel: &AsyncChannel, unsent: &mut Unsent) -> io::Result<Option<OfferId>> {
    if let Some((datagram, beside)) = unsent.front() {
        channel.send(datagram, &descriptors(beside)).await?;
    }
    Ok(match unsent.pop_front() {
        Some((_, Beside::Arriving(offer, ..))) => Some(offer),
        Some(_) | None => None,
    })
}

fn descriptors(beside: &Beside) -> Vec<BorrowedFd<'_>> {
    match beside {
        Beside::Nothing => Vec::new(),
        Beside::State(state) => vec![state.as_fd()],
        Beside::Connection(socket) | Beside::Arriving(_, socket, None) => vec![socket.as_fd()],
        Beside::Arriving(_, socket, Some(state)) => vec![socket.as_fd(), state.as_fd()],
    }
}
