//! A worker under the newest plan.
//!
//! Invariant: a request takes the worker once, at its beginning, and so sees one plan from end to end.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::plan::Plan;
use crate::worker::Worker;

/// What the tasks of a worker's thread take the worker from.
#[derive(Debug)]
pub(crate) struct Current {
    worker: RefCell<Rc<Worker>>,
    plan: RefCell<Cache<Arc<ArcSwap<Plan>>, Arc<Plan>>>,
}

impl Current {
    pub(crate) fn new(worker: Worker, plan: &Arc<ArcSwap<Plan>>) -> Self {
        Self { worker: RefCell::new(Rc::new(worker)), plan: RefCell::new(Cache::new(Arc::clone(plan))) }
    }

    /// The worker under the plan that is newest now.
    pub(crate) fn get(&self) -> Rc<Worker> {
        let mut plan = self.plan.borrow_mut();
        let newest = plan.load();
        let mut worker = self.worker.borrow_mut();
        if !Arc::ptr_eq(newest, &worker.plan) {
            // Requests under way hold the worker before, with its pools; the last of them lets go of it.
            *worker = Rc::new(worker.under(Arc::clone(newest)));
        }
        Rc::clone(&worker)
    }
}
