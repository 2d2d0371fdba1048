//! The simulator: seeded worlds in which everything goes wrong that can, and the judge of the protocol.
//!
//! A run is two phases: everything goes wrong (`chaos`), then everything heals and all must agree, come to rest, and take a node back
//! (`story`). Some nodes have disks that outlive them, good and bad ones (`disk`); no two clocks go equally fast. Frames are encoded and
//! decoded on each way, and each run is one thread's alone: a seed is one history.
//!
//! `SEED=n` replays one run exactly (`TRACE=1` prints what changed, `TRACE=2` every message too, `ABOUT=word,word` only the lines with one
//! of these words); `SEEDS=n` runs that many, from `FROM` on; `SECONDS_MAX=n` is how long a batch may take. Seeds that break something are
//! also written to `target/tmp/failing-seeds.txt`. Stories that have names are in `scenarios/` (see `script`), and in `scenarios.rs`.
//!
//! # Who checks what
//!
//! The protocol's invariants, by number. What a check says begins with the one that it is for.
//!
//! | | invariant | checked by |
//! |---:|---|---|
//! | 1 | convergence | `World::disagreement`, `World::check_contents`, `story::settle` (in time), `story::rest` (nothing is written any more), `story::rejoin` |
//! | 2 | no live instance lost | `World::check_seen` at each write: none that answers whoever looks is down or gone; `World::check_providers`, and from the first agreement on at each step `World::follow` over what `World::protect` noted; where a node stops in fair weather `World::check_late`: nobody is even late; `World::check_attached`: what an open connection holds is never late at the node that has it |
//! | 3 | no zombie | `World::check_providers`; `World::check_nothing_preserved`: self-preservation has ended by itself; `World::check_detached`: what a connection held is late the moment it closes |
//! | 4 | no resurrection | `Ledger::note`: for each life of each node at each step, also past forgetting. A node's next life begins from what others hold, who are judged themselves |
//! | 5 | one writer | `Ledger::note` |
//! | 6 | one owner | `World::check_leases` |
//! | 7 | no false empty | `World::check_empty`, at each event that a consumer hears; `World::check_secured`: no list that is called whole is shorter after all nodes were killed and found on their disks what they had; `World::check_proof`: no node says that there is nothing before it settled, where nothing is left that knew, nor without its bus |
//! | 8 | bounded expiry | `Expiries::note`: not too many at once; `World::check_judging`: once all is whole every node judges, whoever is gone |
//! | 9 | watchers are exact | `Watcher::follow` and `Watcher::compare` for one node; `Consumer::hear` and `World::check_consumers` across nodes |
//! | 10 | bounded | `World::check_bounds`, `World::count_step`; what is sent must fit its frame |
//! | 11 | isolation | `chaos::hostile`: damaged and foreign frames, records that nobody wrote; `chaos::forged`: numbers that are far ahead. Two whole clusters on one server: `tests/it` |
//! | 12 | no clock | `wall_clocks_decide_nothing_once_nodes_run`: one seed with clocks that stray and with ones that do not leaves one trace; histories in which clocks are hours apart from the start |
//! | 13 | alone is enough | `World::check_alone`; `World::answer`: a node that was ready never says that it is warming; `World::check_secured`: what is shown from disk is flagged; `World::check_shown`: it is shown at once |
//! | 14 | mixed versions | not here: `tests/wire`, by golden frames |
//! | 15 | the last word holds | `World::check_words` in the end, in histories whose clocks agree; `words::tests` also with clocks that do not |
//! | | true answers | the simulator's own: `World::check_report` (who is said to have applied a write has it), `World::check_delivered` (what a drain says everybody was sent, everybody was), `World::provider_hears` |
//! | | what is willed holds | the simulator's own: `World::check_wills` at each look (no life of a node lets go of an override), `World::check_wills_hold` in the end |
//! | | a fixed address stays | the simulator's own: `World::check_fixed` at each look, `World::check_fixed_stay` in the end |
//! | | who gives way has handed over | the simulator's own: `World::check_handed_over`, when a node that gave way to another of its name says that nothing is left |
//!
//! # Teeth
//!
//! What is planted, and which check must find it; `teeth` sees each one found.
//!
//! | planted | found as |
//! |---|---|
//! | no beacon reaches anybody | 1 |
//! | nobody answers a pull | 1 |
//! | a body changes on its way, its version does not | 5 |
//! | the shell says of each due lease that nobody renewed it | 1 or 2 |
//! | the shell never says when a due lease was renewed, so that none expires | 3 |
//! | no node sees that a connection has closed | 3, the moment it has |
//! | the end of one connection is taken for that of another | 2, what an open one holds |
//! | a node takes the same epoch at each start | 5 |
//! | relays vanish | 1 or 2 |
//! | the shell tells no consumer of changes | 9 |
//! | a stream leaves out a step | 9 |
//! | withdrawn records are forgotten at once | 4 |
//! | `applied` moves past a gap | true answers |
//! | what a warming peer lacks is taken for deleted | 2 or 7 |
//! | a deaf node believes that it hears itself | 13 |
//! | each relayed heartbeat moves the ownership | 1 |
//! | digests tell keys and not versions | 1 |
//! | a warming node says that there is nothing | 7 |
//! | the wall clock is taken for the monotonic one | 12 |
//! | another cluster's frames are read | 11 |
//! | the registry invents records | 10 |
//! | peers are believed to have applied what they were only sent | true answers |
//! | three of ten leases expire at once | 8, `bounds::tests` |
//! | self-preservation never begins | 8 |
//! | self-preservation never ends | 3, where three fall silent |
//! | a node says for ever that it preserves | 3, by what its records say |
//! | a deregistration of what a node does not own is answered and not written | 15, by words at three nodes |
//! | a record that is too far ahead comes as one that is not | 11, by the record that is taken |
//! | nothing is read from disk | 13, by what is not shown at once |
//! | nothing is read from disk, and nodes are told that nothing was there | 7, by what was on every disk |
//! | whoever is silent for a moment is taken to have left, and its records are adopted at once | 2, while nodes are apart for a minute |
//! | a node that leaves does not say when its providers were heard last | 2, they are late |
//! | no override reaches another node | 1 or what is willed holds |
//! | a registration clears overrides | what is willed holds |
//! | the owner of a fixed address lets it go | a fixed address stays |
//! | streams fall silent once everything has healed | 9, by the last comparison |
//! | a ready node without a bus answers that it is warming | 13, by the false answer |
//! | every look says that nobody listens | 2, by those who answer |
//! | no machine is seen to refuse for a node that died there | 8, by who judges nobody |
//! | every beacon names nodes that there are not | 8, by who judges nobody |
//! | a node that gives way to another of its name does not wait until it has handed over | who gives way has handed over |
//! | a forged record is taken for the next of its log | 11, by the forged record |

mod agreement;
mod attached;
mod batch;
mod blank;
mod bounds;
mod bus;
mod chance;
mod chaos;
mod consumer;
mod counts;
mod diff;
mod disk;
mod divergence;
mod drains;
mod eyes;
mod fixed;
mod invariant;
mod ledger;
mod lines;
mod namesakes;
mod provider;
mod restarts;
mod scenarios;
mod script;
mod secured;
mod shell;
mod story;
mod teeth;
mod trace;
mod watcher;
mod wills;
mod words;
mod world;

use batch::Batch;
use story::{Story, run};
use trace::Level;

/// How long the batch may take where nobody says otherwise: short, for it is one test among many.
const BATCH_SECONDS: u64 = 60;

fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("SEED, SEEDS, FROM and SECONDS_MAX are numbers"))
}

/// One seed again, with its trace.
fn replay(seed: u64, level: Level) -> String {
    let told = run(&Story { level, ..Story::of(seed) });
    let about = std::env::var("ABOUT").unwrap_or_default();
    let words: Vec<&str> = about.split(',').filter(|word| !word.is_empty()).collect();
    let ends = told.violation.map_or_else(|| format!("seed {seed}: nothing is wrong"), |what| format!("seed {seed}: {what}"));
    format!("{}{ends}\n{}", told.trace.about(&words), told.counts.table())
}

#[test]
fn every_history_keeps_the_invariants() {
    if let Some(seed) = asked_for("SEED") {
        let level = match asked_for("TRACE") {
            None | Some(0) => Level::Off,
            Some(1) => Level::Changes,
            Some(_) => Level::All,
        };
        println!("{}", replay(seed, level));
        let told = run(&Story::of(seed));
        assert_eq!(told.violation, None, "SEED={seed}");
        return;
    }
    let from = asked_for("FROM").unwrap_or(1);
    let seconds_max = asked_for("SECONDS_MAX").unwrap_or(BATCH_SECONDS);
    let sum = Batch { from, seeds: asked_for("SEEDS"), seconds_max }.play();
    println!("from {from}: {}", sum.table());
    for (seed, violation) in &sum.violations {
        println!("SEED={seed} breaks {violation}");
    }
    let Some((seed, violation)) = sum.violations.first() else { return };
    println!("SEED={seed} again:\n{}", last_lines(&replay(*seed, Level::Changes), 150));
    panic!("SEED={seed} breaks {violation}; {} more seeds break something", sum.violations.len() - 1);
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 1_000_003] {
        let [one, other] = [0, 1].map(|_| run(&Story { level: Level::All, ..Story::of(seed) }));
        assert!(!one.trace.lines().is_empty());
        assert_eq!(one.trace.lines(), other.trace.lines(), "SEED={seed}");
    }
}

/// A node reads its wall clock where it starts, for its stamps: these order words that have not met, and nothing else.
#[test]
fn wall_clocks_decide_nothing_once_nodes_run() {
    for seed in 0..5 {
        let [right, wrong] = [false, true].map(|wall_clocks_err| {
            run(&Story {
                level: Level::Changes,
                wall_clocks_err,
                // How old it is what a disk holds no other clock can say; what that decides is flagged.
                has_disks: false,
                ..Story::of(seed)
            })
        });
        assert_eq!(right.trace.lines(), wrong.trace.lines(), "SEED={seed}");
        assert_eq!(right.digests, wrong.digests, "SEED={seed}");
    }
}
