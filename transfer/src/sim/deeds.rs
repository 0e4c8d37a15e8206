//! What clients, servers, applications and operators do, and what time does.

use std::time::Duration;

use model::Connection;

use super::Fault;
use super::hands::flow_of;
use super::host::{Host, request};
use super::kernel::Packet;
use super::world::{Mail, Said, World};
use crate::fixture::numbered;
use crate::giving::Ask;
use crate::host::{Activity, Order, Place, Stand, Terms};
use crate::limits;
use crate::routing;
use crate::timers::Timer;

impl World {
    pub(super) fn client_sends(&mut self, flow: usize, byte: Option<u8>) {
        let client = &mut self.clients[flow];
        client.sent = client.sent.max(byte.map_or(0, |byte| byte + 1));
        let packet = Packet { byte, begins: byte.unwrap_or(client.sent), ack: client.received };
        if let Some(forwarded) = self.node.as_mut().and_then(|node| node.forward(flow, packet)) {
            self.packets.insert(forwarded);
        }
    }

    pub(super) fn server_sends(&mut self, flow: usize, host: usize) {
        let Some(socket) = self.hosts[host].kernel.slots[flow].socket else { return };
        let client = &mut self.clients[flow];
        if socket.received > client.sent {
            self.wrong.get_or_insert(format!("connection {flow}: bytes are acknowledged that were not sent"));
        }
        client.acknowledged = client.acknowledged.max(socket.received);
        if socket.acknowledged <= client.received && client.received < socket.written {
            client.received += 1;
        }
    }

    /// An application reads a byte, if it owes no answer, and answers it, if there is room.
    pub(super) fn serve(&mut self, flow: usize, host: usize) {
        let Host { name, kernel, .. } = &mut self.hosts[host];
        let (Some(socket), Some(application)) = (kernel.slots[flow].socket, kernel.applications[flow]) else {
            return;
        };
        let owes = socket.read == socket.written + 1;
        let numbers = (socket.read, socket.written, application.answered);
        if socket.read != socket.written + u8::from(owes) || socket.written != application.answered {
            self.wrong.get_or_insert(format!("{name}: read, written, answered are {numbers:?}"));
        }
        let has_room = kernel.has_room(socket);
        if let (Some(socket), Some(application)) =
            (&mut kernel.slots[flow].socket, &mut kernel.applications[flow])
        {
            socket.read += u8::from(!owes);
            socket.written += u8::from(has_room);
            application.answered += u8::from(has_room);
        }
    }

    pub(super) fn ask(&mut self, flow: usize, from: usize, to: usize, gives_last: bool) {
        self.asks += 1;
        let target = self.hosts[to].name.clone();
        let listener = self.hosts[to].kernel.listener;
        let kernel = &mut self.hosts[from].kernel;
        let (Some(socket), Some(application)) =
            (&mut kernel.slots[flow].socket, &mut kernel.applications[flow])
        else {
            return;
        };
        application.waits = true;
        socket.by_agent = true;
        socket.by_application = !gives_last;
        let state = if listener || !self.settings.state { Vec::new() } else { vec![application.answered] };
        let ask = Ask {
            connection: numbered(flow),
            target,
            job: None,
            consent: self.settings.consent,
            application: state,
            giver: None,
        };
        let (now, (who, request)) = (self.now, request(flow));
        self.hosts[from].with(|machine, _| machine.asked(who, request, ask, Terms::Carry, None, now));
    }

    /// Its servers make no longer pauses than the order says. The connection was found, and looked idle then.
    pub(super) fn order(&mut self, flow: usize, from: usize, to: usize) {
        self.asks += 1;
        let (connection, target) = (numbered(flow), self.hosts[to].name.clone());
        let consent = model::transfer::Consent::Asked;
        let ask = Ask { connection, target, job: None, consent, application: Vec::new(), giver: None };
        let quiet = Some(Duration::from_millis(50));
        let order = Order { id: None, place: Place { process: 1, descriptor: 1 }, quiet, next: None };
        let long = Duration::from_secs(3600);
        let seen = Activity {
            unread: 0,
            unsent: 0,
            since_sent: long,
            since_received: long,
            since_acknowledged: long,
            received: 0,
            is_writable: true,
        };
        let now = self.now;
        self.hosts[from].with(|machine, kernel| {
            machine.ordered(order, ask, Ok((seen, Stand::Another)), kernel, now);
        });
    }

    /// The time is another one for everybody.
    pub(super) fn time_passes(&mut self, time: Duration) {
        self.now += time;
        self.hosts.iter_mut().for_each(|host| host.kernel.time_passed(self.now));
    }

    /// Time passes, for everybody who is alive, and for packets. Clients of connections whose fate was in doubt for too long have
    /// given up.
    pub(super) fn wait(&mut self) {
        self.time_passes(limits::IN_DOUBT / 2 + Duration::from_secs(1));
        let now = self.now;
        self.packets.clear();
        for host in &mut self.hosts {
            // A connection of a former run whose application does not read or ask for so long is closed.
            let awaits = host.agent.as_ref().is_some_and(|agent| agent.machine.awaited() > 0);
            for (flow, slot) in host.kernel.slots.iter().enumerate().filter(|_| awaits) {
                let claims = host.kernel.applications[flow].is_some_and(|application| application.claims);
                self.may_be_lost[flow] |= claims || slot.socket.is_some_and(|socket| socket.in_flight);
            }
            let late = host.kernel.leaving.iter().filter(|(_, until)| *until <= now);
            for (note, _) in late {
                self.may_be_lost[flow_of(&note.connection)] = true;
                self.given_up[flow_of(&note.connection)] = true;
            }
            if self.settings.fault == Some(Fault::ShortMemory) {
                host.with(|machine, _| {
                    let later = now + limits::MEMORY;
                    let _ = machine.machines().1.handle(crate::taking::Event::TimePassed, later);
                });
            }
            host.with(|machine, kernel| machine.time_passed(kernel, now));
        }
        self.node(routing::Event::TimePassed);
    }

    pub(super) fn act(&mut self, host: usize, fuse: Option<usize>) {
        let from = self.hosts[host].name.clone();
        let sent = self.hosts[host].act(fuse, self.now);
        let mail = sent.into_iter().map(|(to, message)| Mail {
            from: from.clone(),
            to,
            said: Said::FromHost(message),
        });
        self.mail.extend(mail);
    }

    pub(super) fn source_timer(&mut self, host: usize, connection: Connection, timer: Timer) {
        let (now, mut in_doubt) = (self.now, false);
        self.hosts[host].with(|machine, _| {
            let source = machine.machines().0;
            source.fire(connection, timer, now);
            in_doubt = source.speaks_for(&connection);
        });
        if self.settings.fault == Some(Fault::ThawOnTimeOut) && in_doubt {
            self.hosts[host].source_thaws(connection);
        }
    }
}
