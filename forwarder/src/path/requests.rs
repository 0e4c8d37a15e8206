//! First requests that come in more than one segment: the segments wait until the request is whole.
//!
//! Nothing of it is acknowledged, so that the client itself repeats what gets lost on the way to the target. If the client repeats a
//! segment that waits, another one was lost before it came here, and the client will not know as long as it hears nothing: then
//! what is here without a gap is acknowledged. What was acknowledged nobody but this worker can repeat, so that it keeps copies
//! until the target has the connection.
//!
//! A segment with which the request is whole, but may not go to a target now, is dropped and does not wait: the client repeats it.
//!
//! Bounded: requests ([`Limits::requests`]; the oldest of a few gives way to a new one), segments of one and of all ([`SEGMENTS`],
//! [`Limits::request_packets`]), bytes of one ([`REQUEST_BYTES`]), time ([`Limits::request_ms`] without new bytes, [`Limits::request_total_ms`] in all).

use super::ends::At;
use super::whose::Read;
use crate::transactions::Agreed;
use crate::{Limits, Now, PacketBuffer, Port};

/// The longest request.
pub(crate) const REQUEST_BYTES: usize = 32_768;
/// Segments of one request.
pub(super) const SEGMENTS: usize = 24;
/// Places that a request may have.
const WAYS: usize = 8;
/// A request is not put out of its place before it has waited for so many milliseconds.
const SAFE_MS: u64 = 500;
/// What is kept of a request that was handed over is sent again after so many milliseconds.
const REPEAT_MS: u64 = 200;
/// For how many milliseconds it is kept.
const KEPT_MS: u64 = 1500;
/// All places are looked at once in so many milliseconds.
const ROUND_MS: u64 = 16;
/// Connections whose first segment was none of a request's start that are remembered, and for how many milliseconds.
const STRAYS: (usize, u64) = (8192, 10_000);
/// A segment that comes again after so many milliseconds is the client's repetition.
const AGAIN_MS: u64 = 100;

/// A segment that waits.
#[derive(Debug)]
pub(super) struct Segment<B> {
    pub(super) packet: B,
    pub(super) read: Read,
    pub(super) from: Port,
    /// Where its data begins, in bytes from the request's start.
    pub(super) offset: usize,
    /// Where its data begins and ends in its frame.
    pub(super) data: (usize, usize),
}

impl<B> Segment<B> {
    fn end(&self) -> usize {
        self.offset.saturating_add(self.data.1.saturating_sub(self.data.0))
    }

    /// It ends where no request that is read may be.
    pub(super) fn is_too_far(&self) -> bool {
        self.end() > REQUEST_BYTES
    }

    /// The same with this packet.
    pub(super) fn with(&self, packet: B) -> Self {
        Self { packet, ..*self }
    }
}

/// Which connection a request is of, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) at: At,
    pub(super) agreed: Agreed,
    /// The client's sequence number at its start.
    pub(super) start: u32,
    /// This node's next sequence number.
    pub(super) sent: u32,
}

/// A request that is not whole, or of which copies are kept.
#[derive(Debug)]
pub(super) struct Request<B> {
    pub(super) about: About,
    /// The first ones are in use, in the order of their offsets.
    pub(super) segments: [Option<Segment<B>>; SEGMENTS],
    /// Bytes from the start that were acknowledged.
    pub(super) acknowledged: usize,
    /// Some of it is urgent data, which servers may leave out.
    pub(super) urgent: bool,
    /// It was handed over: copies are sent again from time to time, and were at this time.
    pub(super) handed: Option<Now>,
    pub(super) since: Now,
    /// When new bytes of it came last.
    progressed: Now,
}

impl<B> Request<B> {
    pub(super) fn new(about: About, since: Now) -> Self {
        Self {
            about,
            segments: std::array::from_fn(|_| None),
            acknowledged: 0,
            urgent: false,
            handed: None,
            since,
            progressed: since,
        }
    }

    fn len(&self) -> usize {
        self.segments.iter().flatten().count()
    }

    /// It is not kept, or waited for, any longer.
    fn is_over(&self, limits: &Limits, now: Now) -> bool {
        let passed_ms = |since: Now| now.ms.saturating_sub(since.ms);
        match self.handed {
            Some(_) => passed_ms(self.since) >= KEPT_MS,
            None => {
                passed_ms(self.progressed) >= limits.request_ms
                    || passed_ms(self.since) >= limits.request_total_ms
            }
        }
    }
}

/// What becomes of a segment of a request that waits.
#[derive(Debug)]
pub(super) enum Added<B> {
    /// It waits, too.
    Waits,
    /// All its bytes wait already.
    Repeated(Segment<B>),
    /// There is no room.
    NoRoom(Segment<B>),
}

/// What is due for a request.
#[derive(Debug)]
pub(super) enum Due<B> {
    /// It was not whole in time, or nobody takes it.
    Over(Request<B>),
    /// What is kept of it is to be sent again, if its target does not have it yet.
    Repeat(At),
}

/// The requests of one worker. Its memory is taken at the start.
#[derive(Debug)]
pub(super) struct Requests<B> {
    /// What is looked at first of each group of places: [`At::tag`], or 0.
    tags: Box<[[u32; WAYS]]>,
    places: Box<[Option<Request<B>>]>,
    len: usize,
    packets: usize,
    limits: Limits,
    /// The place to look at next.
    next: usize,
    looked: Now,
    whole: Box<[u8]>,
    strays: Box<[(u64, Now)]>,
}

impl<B: PacketBuffer> Requests<B> {
    pub(super) fn new(limits: Limits) -> Self {
        let groups = limits.requests.div_ceil(WAYS).max(1);
        Self {
            tags: vec![[0; WAYS]; groups].into(),
            places: (0..groups.saturating_mul(WAYS)).map(|_| None).collect(),
            len: 0,
            packets: 0,
            limits,
            next: 0,
            looked: Now::default(),
            whole: vec![0; REQUEST_BYTES].into(),
            strays: vec![(0, Now::default()); STRAYS.0].into(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The places that a request may have, each with its tag.
    fn places(&mut self, at: At) -> impl Iterator<Item = (&mut u32, &mut Option<Request<B>>)> {
        let group = at.group(self.tags.len());
        let tags = self.tags.get_mut(group).into_iter().flatten();
        tags.zip(self.places.iter_mut().skip(group.saturating_mul(WAYS)))
    }

    /// What waits of a connection.
    pub(super) fn get(&mut self, at: At) -> Option<&mut Request<B>> {
        if self.len == 0 {
            return None;
        }
        let mut places = self.places(at).filter(|(tag, _)| **tag == at.tag());
        places.find_map(|(_, place)| place.as_mut().filter(|request| request.about.at.key == at.key))
    }

    /// Takes a request out.
    pub(super) fn take(&mut self, at: At) -> Option<Request<B>> {
        if self.len == 0 {
            return None;
        }
        let taken = self.places(at).filter(|(tag, _)| **tag == at.tag()).find_map(|(tag, place)| {
            let taken = place.take_if(|request| request.about.at.key == at.key)?;
            *tag = 0;
            Some(taken)
        })?;
        self.len = self.len.saturating_sub(1);
        self.packets = self.packets.saturating_sub(taken.len());
        Some(taken)
    }

    /// Puts a request into a place that is free or that another one has had for too long, which is returned.
    ///
    /// # Errors
    /// The request itself, if there is no room.
    pub(super) fn put(&mut self, request: Request<B>, now: Now) -> Result<Option<Request<B>>, Request<B>> {
        if self.packets.saturating_add(request.len()) > self.limits.request_packets {
            return Err(request);
        }
        let age = |place: &Option<Request<B>>| place.as_ref().map(|request| request.since.ms);
        let at = request.about.at;
        let Some((tag, place)) = self.places(at).min_by_key(|(_, place)| age(place)) else {
            return Err(request);
        };
        if age(place).is_some_and(|since| now.ms.saturating_sub(since) < SAFE_MS) {
            return Err(request);
        }
        let packets = request.len();
        *tag = at.tag();
        let former = place.replace(request);
        let gone = former.as_ref().map_or(0, Request::len);
        self.len = self.len.saturating_add(1).saturating_sub(former.is_some().into());
        self.packets = self.packets.saturating_add(packets).saturating_sub(gone);
        Ok(former)
    }

    /// Adds a segment to the request of a connection that waits.
    pub(super) fn add(&mut self, at: At, segment: Segment<B>, now: Now) -> Added<B> {
        let full = self.packets >= self.limits.request_packets;
        let Some(request) = self.get(at) else { return Added::NoRoom(segment) };
        let covered = request
            .segments
            .iter()
            .flatten()
            .filter(|other| other.offset <= segment.offset)
            .any(|other| other.end() >= segment.end());
        if covered {
            return Added::Repeated(segment);
        }
        let at = request
            .segments
            .iter()
            .take_while(|other| other.as_ref().is_some_and(|other| other.offset <= segment.offset));
        let at = at.count();
        let last = request.segments.last().is_some_and(Option::is_some);
        if full || last || segment.end() > REQUEST_BYTES {
            return Added::NoRoom(segment);
        }
        request.progressed = now;
        if let Some(behind) = request.segments.get_mut(at..) {
            behind.rotate_right(1);
            if let Some(place) = behind.first_mut() {
                *place = Some(segment);
            }
        }
        self.packets = self.packets.saturating_add(1);
        Added::Waits
    }

    /// The packet of the segment that was just added, which begins at this offset: it does not wait after all.
    pub(super) fn take_back(&mut self, at: At, offset: usize) -> Option<B> {
        let segments = &mut self.get(at)?.segments;
        let last = segments.iter().rposition(|s| s.as_ref().is_some_and(|s| s.offset == offset))?;
        let from_it = segments.get_mut(last..)?;
        let taken = from_it.first_mut()?.take()?;
        from_it.rotate_left(1);
        self.packets = self.packets.saturating_sub(1);
        Some(taken.packet)
    }

    /// What there is of a connection's request from its start on, without a gap.
    pub(super) fn bytes(&mut self, at: At) -> &[u8] {
        let mut whole = std::mem::take(&mut self.whole);
        let mut len = 0_usize;
        for segment in self.get(at).map(|request| request.segments.iter().flatten()).into_iter().flatten() {
            let known = len.checked_sub(segment.offset);
            let data = known.and_then(|known| {
                let bytes = segment.packet.bytes().get(segment.data.0..segment.data.1)?;
                bytes.get(known..)
            });
            if let Some(data) = data
                && let Some(room) = whole.get_mut(len..len.saturating_add(data.len()))
            {
                room.copy_from_slice(data);
                len = len.saturating_add(data.len());
            }
        }
        self.whole = whole;
        self.whole.get(..len).unwrap_or_default()
    }

    /// Whether a connection's segment that is of no known place has come before, a client's repetition ago; it is remembered.
    pub(super) fn is_stray_again(&mut self, at: At, now: Now) -> bool {
        let hash = at.hash;
        let at = hash.checked_rem(self.strays.len() as u64).unwrap_or(0) as usize;
        let Some(place) = self.strays.get_mut(at) else { return true };
        let since_ms = now.ms.saturating_sub(place.1.ms);
        if place.0 != hash || since_ms > STRAYS.1 {
            *place = (hash, now);
            return false;
        }
        since_ms >= AGAIN_MS
    }

    /// What is due of a share of the requests, one after the other until there is no more. `left`: places to look at.
    pub(super) fn due(&mut self, left: &mut usize, now: Now) -> Option<Due<B>> {
        while let Some(fewer) = left.checked_sub(1) {
            *left = fewer;
            self.next = self.next.saturating_add(1).checked_rem(self.places.len()).unwrap_or(0);
            let Some(Some(request)) = self.places.get_mut(self.next) else { continue };
            let its = request.about.at;
            if request.is_over(&self.limits, now) {
                return self.take(its).map(Due::Over);
            }
            if let Some(at) = &mut request.handed
                && now.ms.saturating_sub(at.ms) >= REPEAT_MS
            {
                *at = now;
                return Some(Due::Repeat(its));
            }
        }
        None
    }

    /// How many places are to be looked at now.
    pub(super) fn share(&mut self, now: Now) -> usize {
        let passed_ms = now.ms.saturating_sub(self.looked.ms).min(ROUND_MS) as usize;
        self.looked = now;
        self.places.len().saturating_mul(passed_ms).div_ceil(ROUND_MS as usize)
    }
}
