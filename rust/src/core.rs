//! The runtime thread's own state, and what it shares with Python's threads.
//!
//! One current-thread runtime owns every socket, so everything in `Core` is plain `Rc` and
//! `RefCell`. Nothing here runs Python. Other threads reach it through `Shared` only.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::calls::{Calls, Flows, TICK_MS};
use crate::channel::{Channel, Early};
use crate::conn::Conn;
use crate::grpc::code::DEADLINE_EXCEEDED;
use crate::h2::IdMap;
use crate::inbox::{Batch, Event, Inbox};
use crate::loan::Desk;
use crate::outbound::Outbound;
use crate::settings::Rules;

macro_rules! stats {
    ($($name:ident),+ $(,)?) => {
        /// Counters since the start.
        #[derive(Default)]
        pub struct Stats { $(pub $name: AtomicU64),+ }

        impl Stats {
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Relaxed))),+]
            }
        }
    };
}

stats!(
    grpc_received_bytes,
    grpc_sent_bytes,
    http_received_bytes,
    http_sent_bytes,
    accepted,
    accept_errors,
    tls_errors,
    protocol_errors,
    keepalive_goaways,
    stale_replies,
    calls_started,
    calls_refused,
    connections,
    calls,
    partial_bytes,
);

pub fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

/// What Python's threads and the runtime thread both see.
pub struct Shared {
    pub inbox: Inbox,
    pub outbound: Mutex<Outbound>,
    pub outbound_arrived: Notify,
    pub flows: Arc<Flows>,
    pub desk: Desk,
    pub stats: Stats,
    pub closed: AtomicBool,
    pub rules: Arc<Rules>,
}

pub struct Core {
    pub shared: Arc<Shared>,
    pub rules: Arc<Rules>,
    pub calls: RefCell<Calls>,
    pub conns: RefCell<IdMap<u64, Rc<Conn>>>,
    pub listeners: RefCell<HashMap<u64, Rc<Notify>>>,
    pub channels: RefCell<HashMap<u64, Rc<Channel>>>,
    /// Client calls that have no connection yet.
    pub early: RefCell<IdMap<u64, Early>>,
    pub scratch: RefCell<Vec<u8>>,
    pub cipher_scratch: RefCell<Vec<u8>>,
    pub ticker: Notify,
    /// The ticker sleeps longer than a tick: wake it for what is due within one.
    pub ticks_slowly: Cell<bool>,
    pub stop: Notify,
    /// When the drain that was asked for is over.
    pub draining: Cell<Option<Instant>>,
    drained: Cell<bool>,
    batch: RefCell<Batch>,
    flusher: RefCell<Option<Waker>>,
    stalled: RefCell<Vec<Waker>>,
    lazy: RefCell<Vec<Rc<Conn>>>,
    next_conn: Cell<u64>,
    conns_due: Cell<Instant>,
    started: Instant,
}

const SCRATCH_BYTES: usize = 64 << 10;

impl Core {
    pub fn new(shared: Arc<Shared>) -> Rc<Core> {
        let rules = Arc::clone(&shared.rules);
        Rc::new(Core {
            calls: RefCell::new(Calls::new(rules.calls_max, Arc::clone(&shared.flows))),
            conns: RefCell::default(),
            listeners: RefCell::default(),
            channels: RefCell::default(),
            early: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            cipher_scratch: RefCell::new(vec![0; SCRATCH_BYTES / 2]),
            ticker: Notify::new(),
            ticks_slowly: Cell::new(true),
            stop: Notify::new(),
            draining: Cell::new(None),
            drained: Cell::new(false),
            batch: RefCell::default(),
            flusher: RefCell::default(),
            stalled: RefCell::default(),
            lazy: RefCell::default(),
            next_conn: Cell::new(1),
            conns_due: Cell::new(Instant::now()),
            started: Instant::now(),
            shared,
            rules,
        })
    }

    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    pub fn next_conn_id(&self) -> u64 {
        self.next_conn.replace(self.next_conn.get() + 1)
    }

    // Events ----------------------------------------------------------------------------------

    /// Add an event; it reaches the inbox when every task that is ready now has run.
    pub fn push(&self, make: impl FnOnce(&mut Batch) -> Event) {
        let mut batch = self.batch.borrow_mut();
        let event = make(&mut batch);
        batch.events.push_back(event);
        if batch.events.len() == 1
            && let Some(waker) = self.flusher.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    pub fn flush_events(self: &Rc<Self>, waker: &Waker) {
        let mut flusher = self.flusher.borrow_mut();
        if flusher.is_none() {
            *flusher = Some(waker.clone());
        }
        self.lend();
        let mut batch = self.batch.borrow_mut();
        if !batch.events.is_empty() {
            let full = std::mem::take(&mut *batch);
            *batch = self.shared.inbox.push_batch(full);
        }
    }

    /// If a unary call is all there is to do, whoever answers it may write the answer itself.
    fn lend(self: &Rc<Self>) {
        let call = match self.batch.borrow().events.front() {
            Some(Event::Unary { call, .. }) => *call,
            _ => return,
        };
        let desk = &self.shared.desk;
        let alone = self.batch.borrow().events.len() == 1 && self.shared.inbox.is_owner_idle();
        if !alone || self.draining.get().is_some() || desk.is_unused() {
            return;
        }
        if let Some(before) = desk.borrower() {
            let conn = self.conns.borrow().get(&before).cloned();
            if let Some(conn) = conn {
                conn.flush(self); // its loan is settled
            }
        }
        let owner = self.calls.borrow_mut().owner(call);
        if let Some(owner) = owner {
            owner.conn.lend(self, owner.stream, call);
        }
    }

    /// Counting what is about to be handed over.
    pub fn inbox_full(&self) -> bool {
        let (inbox, batch) = (&self.shared.inbox, self.batch.borrow());
        inbox.events.load(Relaxed) + batch.events.len() >= self.rules.inbox_events_max
            || inbox.bytes.load(Relaxed) + batch.bytes >= self.rules.inbox_bytes_max
    }

    /// The inbox is full: wake `waker` when the owner has taken some.
    pub fn stall(&self, waker: &Waker) {
        self.stalled.borrow_mut().push(waker.clone());
        self.shared.inbox.stalled.store(true, SeqCst);
        if !self.inbox_full() {
            self.resume(); // it was emptied before it could see the mark
        }
    }

    pub fn resume(&self) {
        for waker in self.stalled.take() {
            waker.wake();
        }
    }

    // Partial messages ------------------------------------------------------------------------

    /// Count `now - before` bytes of unfinished messages; false: there are too many everywhere.
    pub fn partial(&self, before: usize, now: usize) -> bool {
        let counter = &self.stats().partial_bytes;
        if now >= before {
            let total = counter.fetch_add((now - before) as u64, Relaxed) as usize + now - before;
            total <= self.rules.partial_max || now == before
        } else {
            counter.fetch_sub((before - now) as u64, Relaxed);
            true
        }
    }

    // Time ------------------------------------------------------------------------------------

    pub fn set_deadline(&self, call: u64, timeout_ns: u64) {
        let now_ms = self.now_ms();
        let timeout_ms = timeout_ns.div_ceil(1_000_000);
        self.calls.borrow_mut().set_deadline(call, now_ms.saturating_add(timeout_ms), now_ms);
        self.tick_soon();
    }

    /// Acknowledgements may wait for the answer that is being computed: at most one tick.
    pub fn flush_later(&self, conn: &Rc<Conn>) {
        self.lazy.borrow_mut().push(Rc::clone(conn));
        self.tick_soon();
    }

    fn tick_soon(&self) {
        if self.ticks_slowly.replace(false) {
            self.ticker.notify_one();
        }
    }

    /// How long the ticker may sleep: None while there is nothing to watch.
    pub fn tick_ms(&self) -> Option<u64> {
        if self.calls.borrow().has_timers() || !self.lazy.borrow().is_empty() {
            return Some(TICK_MS);
        }
        let draining = self.draining.get().is_some() && !self.drained.get();
        if draining {
            return Some(TICK_MS);
        }
        if self.conns.borrow().is_empty() {
            return None;
        }
        Some(self.conn_tick_ms())
    }

    /// How often connections look at the clock.
    fn conn_tick_ms(&self) -> u64 {
        let rules = &self.rules;
        let intervals = [
            rules.keepalive_interval.unwrap_or(Duration::MAX),
            rules.keepalive_timeout,
            rules.handshake_timeout,
        ];
        let shortest = intervals.into_iter().min().unwrap_or(Duration::MAX).as_millis() as u64;
        (shortest / 4).clamp(TICK_MS, 250)
    }

    pub fn tick(self: &Rc<Self>) {
        for conn in self.lazy.take() {
            conn.flush(self);
        }
        let expired = self.calls.borrow_mut().expired(self.now_ms());
        for call in expired {
            let owner = self.calls.borrow_mut().owner(call);
            match owner {
                Some(owner) => owner.conn.deadline(self, owner.stream, call),
                None => {
                    let status = (DEADLINE_EXCEEDED, "context deadline exceeded");
                    self.give_up_early(call, Some(status));
                }
            }
        }
        let now = Instant::now();
        if now >= self.conns_due.get() {
            self.conns_due.set(now + Duration::from_millis(self.conn_tick_ms()));
            let conns: Vec<Rc<Conn>> = self.conns.borrow().values().cloned().collect();
            for conn in conns {
                conn.tick(self, now);
            }
        }
        self.check_drained(now);
    }

    // Calls -----------------------------------------------------------------------------------

    pub fn release(&self, call: u64) {
        self.calls.borrow_mut().release(call);
        self.stats().calls.store(self.calls.borrow().open() as u64, Relaxed);
    }

    /// The call was given up by the other side: tell Python, unless it was answered already.
    pub fn cancelled(&self, call: u64, code: u32) {
        if call != 0 {
            self.release(call);
            self.push(|_| Event::Cancelled { call, code });
        }
    }

    /// Outbound bytes of a call have left its queue.
    pub fn sent(&self, call: u64, size: usize) {
        if call != 0 && self.shared.flows.sub(call, size) {
            self.push(|_| Event::Writable { call });
        }
    }

    /// The runtime ends: break every tie, so that all sockets close.
    pub fn shut(self: &Rc<Self>) {
        let conns: Vec<Rc<Conn>> = self.conns.take().into_values().collect();
        for conn in conns {
            conn.destroy(self);
        }
        self.channels.take();
        self.early.take();
        self.lazy.take();
    }

    // Leaving ---------------------------------------------------------------------------------

    pub fn drain(self: &Rc<Self>, timeout: Duration) {
        let until = Instant::now().checked_add(timeout);
        let far = Instant::now() + Duration::from_secs(1 << 30);
        self.draining.set(Some(until.unwrap_or(far)));
        for stop in self.listeners.borrow().values() {
            stop.notify_one();
        }
        let conns: Vec<Rc<Conn>> = self.conns.borrow().values().cloned().collect();
        for conn in conns {
            conn.drain(self);
        }
        self.ticker.notify_one();
    }

    fn check_drained(&self, now: Instant) {
        let Some(until) = self.draining.get() else { return };
        let open = self.calls.borrow().open();
        if (open == 0 || now >= until) && !self.drained.replace(true) {
            self.push(|_| Event::Drained(open as u64));
        }
    }
}
