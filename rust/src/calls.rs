//! Open calls: ids, who owns them, and how many outbound bytes each has under way.
//!
//! A server call's id is `generation << 32 | slot`; the runtime thread allocates slots. A client
//! call's id has bit 62 set and comes from a counter, since Python needs it at once.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

use crate::conn::Conn;
use crate::h2::IdMap;
use crate::inbox::lock;

pub const CLIENT: u64 = 1 << 62;
const CHUNK: usize = 1024;
const CHUNKS: usize = crate::settings::CALLS_MAX / CHUNK;
const GENERATION_MASK: u32 = (1 << 30) - 1;

/// Outbound bytes of one call, counted by whoever hands them over, discounted by the runtime.
#[derive(Default)]
pub struct Flow {
    generation: AtomicU32,
    queued: AtomicUsize,
    over: AtomicBool,
}

impl Flow {
    /// Count `size` bytes; true when the call is now over `high` and a WRITABLE will follow.
    fn add(&self, size: usize, high: usize, low: usize) -> bool {
        let queued = self.queued.fetch_add(size, SeqCst) + size;
        if queued <= high {
            return false;
        }
        self.over.store(true, SeqCst);
        // The runtime may have emptied the queue before it could see the mark.
        !(self.queued.load(SeqCst) <= low && self.over.swap(false, SeqCst))
    }

    /// `size` bytes have left; true when a WRITABLE is due.
    fn sub(&self, size: usize, low: usize) -> bool {
        let queued = self.queued.fetch_sub(size, SeqCst).wrapping_sub(size);
        queued <= low && self.over.load(SeqCst) && self.over.swap(false, SeqCst)
    }

    fn reset(&self, generation: u32) {
        self.generation.store(generation, SeqCst);
        self.queued.store(0, SeqCst);
        self.over.store(false, SeqCst);
    }
}

/// The flows of all calls, shared by both sides.
pub struct Flows {
    chunks: Vec<OnceLock<Box<[Flow]>>>,
    clients: Mutex<HashMap<u64, Arc<Flow>>>,
    next_client: AtomicU64,
    pub high: usize,
    pub low: usize,
}

impl Flows {
    pub fn new(high: usize, low: usize) -> Self {
        Flows {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            clients: Mutex::default(),
            next_client: AtomicU64::new(CLIENT),
            high,
            low,
        }
    }

    fn with<R>(&self, call: u64, act: impl FnOnce(&Flow) -> R) -> Option<R> {
        if call & CLIENT != 0 {
            let flow = lock(&self.clients).get(&call).cloned()?;
            return Some(act(&flow));
        }
        let slot = call as u32 as usize;
        let flow = self.chunks.get(slot / CHUNK)?.get()?.get(slot % CHUNK)?;
        let live = flow.generation.load(SeqCst) == (call >> 32) as u32;
        live.then(|| act(flow))
    }

    /// None: the call is dead.
    pub fn add(&self, call: u64, size: usize) -> Option<bool> {
        self.with(call, |flow| flow.add(size, self.high, self.low))
    }

    pub fn sub(&self, call: u64, size: usize) -> bool {
        size > 0 && self.with(call, |flow| flow.sub(size, self.low)).unwrap_or(false)
    }

    /// What waits is framed: correct the count of what was handed over.
    pub fn adjust(&self, call: u64, by: isize) {
        self.with(call, |flow| flow.queued.fetch_add(by as usize, SeqCst));
    }

    pub fn new_client(&self) -> u64 {
        let call = self.next_client.fetch_add(1, SeqCst);
        lock(&self.clients).insert(call, Arc::default());
        call
    }

    pub fn drop_client(&self, call: u64) {
        lock(&self.clients).remove(&call);
    }
}

/// Where a call lives: a connection and the number it has there.
#[derive(Clone)]
pub struct Owner {
    pub conn: Rc<Conn>,
    pub stream: u32,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    owner: Option<Owner>,
    deadline_ms: u64, // on the runtime's clock; 0: none
    timer_ms: u64,    // when the timer will look at this slot; 0: not at all
}

/// The runtime thread's table of calls.
pub struct Calls {
    slots: Vec<Slot>,
    free: Vec<u32>,
    pub clients: IdMap<u64, Owner>,
    limit: usize,
    flows: Arc<Flows>,
    timers: std::collections::BTreeMap<u64, Vec<u32>>,
    client_timers: std::collections::BTreeMap<u64, Vec<u64>>,
}

/// Deadlines are looked at this often: late by at most so much.
pub const TICK_MS: u64 = 10;
/// A far deadline is looked at in between, so that reused slots never pile up timer entries.
const TIMER_SPAN_MS: u64 = 30_000;

impl Calls {
    pub fn new(limit: usize, flows: Arc<Flows>) -> Self {
        Calls {
            slots: Vec::new(),
            free: Vec::new(),
            clients: IdMap::default(),
            limit,
            flows,
            timers: Default::default(),
            client_timers: Default::default(),
        }
    }

    /// Server calls that are open.
    pub fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// None: `calls_max` are open already.
    pub fn allocate(&mut self, owner: Owner) -> Option<u64> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.limit => {
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let entry = &mut self.slots[slot as usize];
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        entry.owner = Some(owner);
        entry.deadline_ms = 0;
        let chunk = self.flows.chunks[slot as usize / CHUNK]
            .get_or_init(|| (0..CHUNK).map(|_| Flow::default()).collect());
        chunk[slot as usize % CHUNK].reset(entry.generation);
        Some((entry.generation as u64) << 32 | slot as u64)
    }

    fn slot(&mut self, call: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(call as u32 as usize)?;
        let live = slot.generation == (call >> 32) as u32 && slot.owner.is_some();
        live.then_some(slot)
    }

    pub fn owner(&mut self, call: u64) -> Option<Owner> {
        if call & CLIENT != 0 {
            return self.clients.get(&call).cloned();
        }
        self.slot(call)?.owner.clone()
    }

    /// The call is over: its id is dead from here on.
    pub fn release(&mut self, call: u64) -> Option<Owner> {
        if call & CLIENT != 0 {
            self.flows.drop_client(call);
            return self.clients.remove(&call);
        }
        let slot = self.slot(call)?;
        let owner = slot.owner.take();
        slot.deadline_ms = 0;
        let index = call as u32;
        // Let senders on other threads see at once that the id is dead.
        let generation = (slot.generation + 1) & GENERATION_MASK;
        if let Some(chunk) = self.flows.chunks[index as usize / CHUNK].get() {
            chunk[index as usize % CHUNK].reset(generation);
        }
        self.free.push(index);
        owner
    }

    pub fn set_deadline(&mut self, call: u64, deadline_ms: u64, now_ms: u64) {
        if call & CLIENT != 0 {
            self.client_timers.entry(deadline_ms / TICK_MS + 1).or_default().push(call);
            return;
        }
        let Some(slot) = self.slot(call) else { return };
        slot.deadline_ms = deadline_ms;
        let look_ms = deadline_ms.min(now_ms + TIMER_SPAN_MS);
        if slot.timer_ms == 0 || slot.timer_ms > look_ms {
            slot.timer_ms = look_ms;
            self.timers.entry(look_ms / TICK_MS + 1).or_default().push(call as u32);
        }
    }

    pub fn has_timers(&self) -> bool {
        !self.timers.is_empty() || !self.client_timers.is_empty()
    }

    /// The calls whose deadline is over at `now_ms`.
    pub fn expired(&mut self, now_ms: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some(entry) = self.client_timers.first_entry() {
            if *entry.key() * TICK_MS > now_ms {
                break;
            }
            expired.extend(entry.remove());
        }
        while let Some(entry) = self.timers.first_entry() {
            if *entry.key() * TICK_MS > now_ms {
                break;
            }
            for index in entry.remove() {
                let slot = &mut self.slots[index as usize];
                slot.timer_ms = 0;
                if slot.deadline_ms == 0 || slot.owner.is_none() {
                    continue;
                }
                if slot.deadline_ms <= now_ms {
                    expired.push((slot.generation as u64) << 32 | index as u64);
                } else {
                    let look_ms = slot.deadline_ms.min(now_ms + TIMER_SPAN_MS);
                    slot.timer_ms = look_ms;
                    self.timers.entry(look_ms / TICK_MS + 1).or_default().push(index);
                }
            }
        }
        expired
    }
}
