//! Bytes that wait for a window: small ones gathered in buffers, large ones left where they are.

use std::collections::VecDeque;

/// Bytes of somebody else's, kept until they are sent.
pub type Piece = Box<dyn AsRef<[u8]> + Send>;

/// Small pushes share buffers of about this size, which are freed as they are sent.
const BUFFER_BYTES: usize = 64 << 10;

enum Part {
    Gathered(Vec<u8>),
    Kept(Piece),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Gathered(bytes) => bytes,
            Part::Kept(piece) => (**piece).as_ref(),
        }
    }
}

/// First in, first out. Nothing is moved or copied as a whole, however long the queue is.
#[derive(Default)]
pub struct Queue {
    parts: VecDeque<Part>, // none is empty
    start: usize,          // bytes of the first part that have left
    len: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        match self.parts.back_mut() {
            Some(Part::Gathered(last)) if last.len() < BUFFER_BYTES => last.extend_from_slice(data),
            _ => self.parts.push_back(Part::Gathered(data.to_vec())),
        }
    }

    pub fn keep(&mut self, piece: Piece) {
        let size = (*piece).as_ref().len();
        if size > 0 {
            self.len += size;
            self.parts.push_back(Part::Kept(piece));
        }
    }

    /// Append the next `size` bytes, at most all, to `out`; parts that are through are freed.
    pub fn pop_into(&mut self, size: usize, out: &mut Vec<u8>) {
        let mut left = size.min(self.len);
        self.len -= left;
        while left > 0
            && let Some(first) = self.parts.front()
        {
            let bytes = &first.bytes()[self.start..];
            let taken = &bytes[..left.min(bytes.len())];
            out.extend_from_slice(taken);
            left -= taken.len();
            if taken.len() < bytes.len() {
                self.start += taken.len();
            } else {
                self.start = 0;
                self.parts.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn popped(queue: &mut Queue, size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        queue.pop_into(size, &mut out);
        out
    }

    #[test]
    fn what_goes_in_comes_out_in_order_whatever_the_cuts() {
        let all: Vec<u8> = (0..500_000_u32).map(|i| (i % 251) as u8).collect();
        for cut in [1 << 10, 16_384, 70_001, 1 << 20] {
            let mut queue = Queue::default();
            let mut rest = &all[..];
            for number in 0.. {
                let size = rest.len().min(1 + 7919 * number);
                let (data, after) = rest.split_at(size);
                if number % 2 == 0 {
                    queue.push(data)
                } else {
                    queue.keep(Box::new(data.to_vec()))
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            let mut out = Vec::new();
            while queue.len() > 0 {
                let before = (queue.len(), out.len());
                queue.pop_into(cut, &mut out);
                assert_eq!(out.len() - before.1, cut.min(before.0));
                assert_eq!(before.0 - queue.len(), out.len() - before.1);
            }
            assert!(out == all);
        }
    }

    #[test]
    fn a_piece_is_freed_with_its_last_byte() {
        struct Counted(#[allow(dead_code)] Arc<()>);
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                b"abc"
            }
        }
        let counter = Arc::new(());
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.keep(Box::new(Counted(Arc::clone(&counter))));
        }
        assert_eq!(popped(&mut queue, 2), b"ab");
        assert_eq!(Arc::strong_count(&counter), 4);
        assert_eq!(popped(&mut queue, 1), b"c");
        assert_eq!(Arc::strong_count(&counter), 3);
        assert_eq!(popped(&mut queue, 4), b"abca");
        assert_eq!(Arc::strong_count(&counter), 2);
        drop(queue);
        assert_eq!(Arc::strong_count(&counter), 1);
    }

    #[test]
    fn small_pushes_share_a_buffer_and_empty_ones_are_nothing() {
        let mut queue = Queue::default();
        queue.push(b"");
        queue.keep(Box::new(Vec::new()));
        assert_eq!((queue.len(), queue.parts.len()), (0, 0));
        for _ in 0..1000 {
            queue.push(b"0123456789");
        }
        assert_eq!((queue.len(), queue.parts.len()), (10_000, 1));
        assert_eq!(popped(&mut queue, usize::MAX).len(), 10_000);
        assert_eq!((queue.len(), queue.parts.len()), (0, 0));
    }
}
