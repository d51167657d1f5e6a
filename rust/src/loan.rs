//! A loan: the thread that answers a lone call writes the answer to the socket itself.
//!
//! With one call at a time, most of its latency is threads waking each other. So when a unary call
//! reaches an idle owner, the runtime thread lends the connection to whoever answers: the frames
//! around the message, prepared, and the socket. The borrower writes once and tells nobody; the
//! runtime thread takes the loan back, used or not, before it touches the connection again
//! (`Conn::state`). So the connection has one writer at any time, and nothing is prepared that a
//! loan that was never used would leave behind in the encoder or the windows.
//!
//! There is one loan at most: with more calls than one the hand-over in batches is the better way.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::core::{Stats, count};
use crate::grpc;
use crate::h2;
use crate::inbox::lock;
use crate::io::Socket;

/// What the borrower did.
#[derive(Default)]
pub struct Used {
    /// Size of the DATA frame: message and prefix.
    pub data_bytes: usize,
    /// What the socket did not take; it goes out before anything else.
    pub rest: Vec<u8>,
}

pub struct Loan {
    pub call: u64,
    pub conn: u64,
    pub stream: u32,
    pub socket: Arc<Socket>,
    /// What goes before the DATA frame: held-back acknowledgements, response headers.
    pub before: Vec<u8>,
    /// The trailers' frame.
    pub after: Vec<u8>,
    /// The longest payload of a DATA frame that windows allow.
    pub room: usize,
    pub used: Option<Used>,
}

/// How far an answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// There is no loan for it: hand it over.
    Refused,
    Sent,
    /// This connection must go on with the rest.
    Begun(u64),
}

/// Where the one loan lies.
#[derive(Default)]
pub struct Desk {
    call: AtomicU64, // of an unused loan; 0: none
    loan: Mutex<Option<Loan>>,
}

impl Desk {
    /// The connection whose loan lies here.
    pub fn borrower(&self) -> Option<u64> {
        lock(&self.loan).as_ref().map(|loan| loan.conn)
    }

    pub fn is_unused(&self) -> bool {
        self.call.load(SeqCst) != 0
    }

    pub fn lend(&self, loan: Loan) {
        let call = loan.call;
        *lock(&self.loan) = Some(loan);
        self.call.store(call, SeqCst);
    }

    pub fn take_back(&self) -> Option<Loan> {
        let mut place = lock(&self.loan);
        self.call.store(0, SeqCst);
        place.take()
    }

    /// On the answering thread.
    pub fn answer(&self, call: u64, message: &[u8], stats: &Stats) -> Answer {
        if self.call.load(SeqCst) != call {
            return Answer::Refused;
        }
        let mut place = lock(&self.loan);
        let Some(loan) = place.as_mut().filter(|loan| loan.call == call && loan.used.is_none())
        else {
            return Answer::Refused;
        };
        let prefix = grpc::prefix(false, message.len());
        let data_bytes = prefix.len() + message.len();
        if data_bytes > loan.room {
            return Answer::Refused;
        }
        let mut bytes = std::mem::take(&mut loan.before);
        let kept = bytes.len();
        h2::data_frame(&mut bytes, loan.stream, &prefix, message);
        bytes.extend_from_slice(&loan.after);
        let Ok(sent) = loan.socket.try_write(&bytes) else {
            bytes.truncate(kept);
            loan.before = bytes;
            return Answer::Refused; // full or broken: the connection finds out itself
        };
        let rest = bytes.split_off(sent);
        let whole = rest.is_empty();
        loan.used = Some(Used { data_bytes, rest });
        self.call.store(0, SeqCst);
        // Counted before the lock is free: then the runtime thread counts for itself.
        count(&stats.grpc_sent_bytes, sent as u64);
        stats.calls.fetch_sub(1, SeqCst);
        if whole { Answer::Sent } else { Answer::Begun(loan.conn) }
    }
}
