//! A small queueing model: an upstream, its clients, and the limiter between them.

use super::super::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

pub(super) const BASE: Duration = Duration::from_millis(10);
pub(super) const WIDE: AdaptiveRules = AdaptiveRules { min: 1, max: 1_000 };

/// How long the upstream works on a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Always the same.
    Even,
    /// Up to a fifth more or less.
    Jittered,
    /// Exponentially distributed: often far less, now and then far more.
    Exponential,
}

/// An upstream that works on `capacity` requests at once, for `base` each on average, and queues the others in order.
/// Before it a closed loop: `load` clients, each of which asks again at once, and as many requests as the limit allows.
pub(super) struct Sim {
    pub(super) capacity: usize,
    pub(super) base: Duration,
    load: usize,
    work: Work,
    rules: AdaptiveRules,
    adaptive: Adaptive,
    now: Duration,
    dice: u64,
    /// When each request in work ends, and when it came.
    busy: BinaryHeap<Reverse<(Duration, Duration)>>,
    queue: VecDeque<Duration>,
}

/// What a stretch of time was like.
#[derive(Debug)]
pub(super) struct Seen {
    /// The mean, over requests.
    pub(super) limit: f64,
    /// The mean, as a multiple of what a request takes without a queue.
    pub(super) latency: f64,
    pub(super) highest: u32,
    pub(super) lowest: u32,
    /// How much of the capacity was used.
    pub(super) used: f64,
}

impl Sim {
    pub(super) fn new(rules: AdaptiveRules, capacity: usize, load: usize, work: Work) -> Self {
        Sim {
            capacity,
            base: BASE,
            load,
            work,
            rules,
            adaptive: Adaptive::new(&rules),
            now: Duration::ZERO,
            dice: 1,
            busy: BinaryHeap::new(),
            queue: VecDeque::new(),
        }
    }

    fn chance(&mut self) -> f64 {
        // Knuth's MMIX generator.
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 11) as f64 / (1u64 << 53) as f64
    }

    fn in_flight(&self) -> usize {
        self.busy.len() + self.queue.len()
    }

    fn fill(&mut self) {
        while self.in_flight() < self.load.min(self.adaptive.limit() as usize) {
            self.queue.push_back(self.now);
        }
        while self.busy.len() < self.capacity {
            let Some(came) = self.queue.pop_front() else {
                break;
            };
            let share = match self.work {
                Work::Even => 1.0,
                Work::Jittered => 0.8 + 0.4 * self.chance(),
                Work::Exponential => -(1.0 - self.chance()).ln(),
            };
            let ends = self.now + self.base.mul_f64(share);
            self.busy.push(Reverse((ends, came)));
        }
    }

    pub(super) fn run(&mut self, requests: u32) -> Seen {
        let began = self.now;
        let (mut limits, mut latencies) = (0.0, Duration::ZERO);
        let (mut highest, mut lowest) = (0, u32::MAX);
        for _ in 0..requests {
            self.fill();
            let in_flight = self.in_flight() as u32;
            let Reverse((ends, came)) = self.busy.pop().unwrap();
            self.now = ends;
            let latency = ends - came;
            let before = self.adaptive.limit();
            let new = self
                .adaptive
                .observe(&self.rules, ends, latency, in_flight, false);
            let limit = self.adaptive.limit();
            assert_eq!(new, (limit != before).then_some(limit));
            assert!((self.rules.min..=self.rules.max).contains(&limit));
            limits += f64::from(limit);
            latencies += latency;
            (highest, lowest) = (highest.max(limit), lowest.min(limit));
        }
        let (base, seconds) = (self.base.as_secs_f64(), (self.now - began).as_secs_f64());
        Seen {
            limit: limits / f64::from(requests),
            latency: latencies.as_secs_f64() / f64::from(requests) / base,
            highest,
            lowest,
            used: f64::from(requests) * base / seconds / self.capacity as f64,
        }
    }
}
