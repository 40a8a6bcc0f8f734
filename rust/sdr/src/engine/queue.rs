//! Waiting in line: first come, first served.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use anyhow::Result;

use super::WAIT;

/// A line of sectors that want the same thing.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Tickets, the longest waiting first.
    waiting: VecDeque<u64>,
    next_ticket: u64,
}

impl Queue {
    /// Waits until nobody else is in front, and stays there until what is returned is dropped. Meanwhile
    /// `waiting` is called ten times a second; an error it returns ends the wait.
    pub fn turn(&self, waiting: &mut dyn FnMut() -> Result<()>) -> Result<Turn<'_>> {
        let mut state = self.lock();
        let turn = Turn {
            queue: self,
            ticket: state.next_ticket,
        };
        state.next_ticket += 1;
        state.waiting.push_back(turn.ticket);
        while state.waiting.front() != Some(&turn.ticket) {
            let woken = self.moved.wait_timeout(state, WAIT);
            drop(woken.expect("never poisoned: no panic while locked").0);
            waiting()?;
            state = self.lock();
        }
        drop(state);
        Ok(turn)
    }

    /// How many are in line, the one whose turn it is among them.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("never poisoned: no panic while locked")
    }
}

/// A place in the line, left when dropped.
pub struct Turn<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.queue.lock().waiting.retain(|other| *other != ticket);
        self.queue.moved.notify_all();
    }
}
