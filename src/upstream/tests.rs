//! What several workers do at the same moment.

use super::*;
use crate::config::{BackendAddress, Host};
use crate::policy::health::Observation;
use std::sync::Barrier;
use std::thread;

fn backend(port: u16) -> BackendPlan {
    BackendPlan {
        address: BackendAddress {
            host: Host::Ip([127, 0, 0, 1].into()),
            port,
        },
        weight: 1,
        backup: false,
        fail: FailRules::default(),
        max_conns: None,
        state: BackendState::Up,
    }
}

fn two(eject: EjectRules) -> Upstream {
    let plan = UpstreamPlan {
        http2: false,
        name: "pool".into(),
        balance: Balance::RoundRobin,
        backends: vec![backend(1), backend(2)],
        keepalive_idle: Duration::ZERO,
        tls: None,
        check: None,
        eject,
        concurrency: None,
    };
    Upstream::build(&plan, None).unwrap()
}

#[test]
fn of_many_who_could_be_the_trial_of_an_ejected_backend_one_is() {
    let rules = EjectRules {
        consecutive: 1,
        time: Duration::from_nanos(1),
        ..EjectRules::default()
    };
    for round in 0..2_000 {
        let upstream = two(rules.clone());
        let pick = |turn| upstream.pick(&Tried::default(), turn, None, Reach::Nothing);
        let first = (0..2).find_map(|turn| pick(turn).ok().filter(|picked| picked.index == 0));
        let first = first.expect("in turn");
        upstream.observe(0, &first.active, Observation::Failed);
        drop(first);
        let begin = Barrier::new(4);
        let picked: Vec<Picked> = thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|n| {
                    let (begin, pick) = (&begin, &pick);
                    scope.spawn(move || {
                        begin.wait();
                        // Whichever turn is the backend's.
                        [pick(2 * n), pick(2 * n + 1)]
                    })
                })
                .collect();
            let all = workers.into_iter().map(|worker| worker.join().unwrap());
            all.flatten().map(|picked| picked.unwrap()).collect()
        });
        let trials = picked.iter().filter(|picked| picked.index == 0).count();
        assert_eq!(trials, 1, "round {round}");
    }
}
