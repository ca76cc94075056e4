//! One decision of the policy core: time and allocations on the plain restart path.
//!
//! The path is what happens when a worker dies and comes back: its exit, and the readiness of the replacement.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use regrow::exit::Exit;
use regrow::id::Incarnation;
use regrow::policy::{
    AutoShutdown, Backoff, ChildKind, ChildSpec, ExitCodes, Fact, Intensity, OnExhausted, Restart,
    RestartStrategy, RetryPark, Shutdown, Supervisor, SupervisorSpec,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
#[expect(unsafe_code, reason = "an allocator that counts cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: u64 = 1_000_000;

fn main() {
    for children in [1, 1000] {
        measure(children);
    }
}

fn measure(children: usize) {
    let mut core = Supervisor::new(supervisor(), (0..children).map(child).collect()).expect("a valid spec");
    let mut now = Duration::ZERO;
    let _ = core.on_fact(now, Fact::Boot);
    let keys: Vec<_> = core.children().collect();
    for key in &keys {
        let _ = core.on_fact(now, Fact::Ready { child: *key, incarnation: Incarnation(1) });
    }
    let key = keys[keys.len() / 2];
    let (mut allocated, mut worst, began) = (0, Duration::ZERO, Instant::now());
    for round in 1..=ROUNDS {
        // Longer apart than the window, so that the budget never ends and the delay is always none.
        now += Duration::from_secs(700);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let turn = Instant::now();
        let incarnation = Incarnation(round);
        let exit = Exit::Signaled { signal: 9 };
        let actions = core.on_fact(now, Fact::Exited { child: key, incarnation, exit });
        let more = core.on_fact(now, Fact::Ready { child: key, incarnation: incarnation.next() });
        worst = worst.max(turn.elapsed());
        drop((actions, more));
        if round > 1000 {
            allocated += ALLOCATIONS.load(Ordering::Relaxed) - before;
        }
    }
    let each = began.elapsed().as_secs_f64() * 1e9 / (2 * ROUNDS) as f64;
    println!(
        "one decision of the core, {children:>4} children   {each:.0} ns (goal <= 1000), {allocated} allocations in {ROUNDS} \
         restarts (goal 0), slowest restart {:.0} us",
        worst.as_secs_f64() * 1e6
    );
}

fn supervisor() -> SupervisorSpec {
    SupervisorSpec {
        strategy: RestartStrategy::OneForOne,
        intensity: Intensity { max_restarts: 10, within: Duration::from_secs(300) },
        on_exhausted: OnExhausted::Quarantine,
        retry: Some(RetryPark { first: Duration::from_secs(30), every: Duration::from_secs(900) }),
        auto_shutdown: AutoShutdown::Never,
        seed: 1,
    }
}

fn child(index: usize) -> ChildSpec {
    ChildSpec {
        id: Arc::from(format!("c{index}")),
        restart: Restart::Permanent,
        shutdown: Shutdown::Timeout(Duration::from_secs(10)),
        kind: ChildKind::Worker,
        significant: false,
        backoff: Backoff {
            first: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(60),
            jitter: 0.2,
            reset_after: Duration::from_secs(600),
        },
        exit_codes: ExitCodes { normal: Arc::from([0]), fatal: Arc::from([]) },
        start_timeout: Some(Duration::from_secs(30)),
        min_uptime: Duration::ZERO,
        verify: Duration::from_secs(10),
        ladder: None,
        heard_within: Duration::ZERO,
        pool: None,
        held: false,
        stopped: false,
        paused: None,
        incarnation: Incarnation::NONE,
    }
}
