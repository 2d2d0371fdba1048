//! A damaged disk: a file that a real node wrote is flipped and cut in many places, and each time the program starts with all it can know.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::warm_file::{HEADER_BYTES, blocks, ids_in};
use crate::support::{Node, eventually};

const INSTANCES: usize = 200;
const LIST: &str = "/v1/services/user/instances";
/// How many places of the file are damaged, in either way; one of them is in its header.
const OFFSETS: usize = 24;
/// Each start is a process of its own; more at once only wait for each other.
const AT_ONCE: usize = 4;
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);

/// What is listed, by id.
type Listed = BTreeMap<String, Value>;

/// A folder's two files as a node left them, and what the node listed then.
struct Saved {
    current: Vec<u8>,
    previous: Vec<u8>,
    listed: Listed,
}

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flipped(usize),
    Cut(usize),
}

async fn list(node: &Node) -> Listed {
    let list = node.get(LIST).await.expect(200);
    let instances = list["instances"].as_array().expect("a list");
    instances.iter().map(|instance| (instance["id"].as_str().expect("an id").to_owned(), instance.clone())).collect()
}

/// Runs a node until it has saved twice what it lists, so that the file before the last one holds the same.
async fn save() -> Saved {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start_alone_in("n1", folder.path()).await;
    let register = |number: usize| {
        // Some hundreds of bytes each, so that they fill several blocks.
        let metadata: BTreeMap<String, String> = (0..8).map(|key| (format!("key-{key}"), format!("{number}-{key}-").repeat(20))).collect();
        let port = 8000 + number;
        json!({"op": "register", "service": "user", "id": format!("i{number:05}"), "address": "10.0.0.7", "port": port, "ttl": "1h", "metadata": metadata})
    };
    node.post("/v1/batch", &json!({"ops": (0..INSTANCES).map(register).collect::<Vec<_>>()})).await.expect(200);
    let current = folder.path().join("warm");
    let is_whole = || std::fs::read(&current).is_ok_and(|file| ids_in(&file).len() == INSTANCES);
    eventually("all are saved", WRITTEN_WITHIN, async || if is_whole() { Ok(()) } else { Err("not yet".into()) }).await;
    let listed = list(&node).await;
    assert_eq!(listed.len(), INSTANCES);
    node.signal("TERM");
    assert!(node.ended(Duration::from_secs(20)).await.success());
    let previous = std::fs::read(folder.path().join("warm.previous")).expect("the file before the last one");
    Saved { current: std::fs::read(&current).expect("a file"), previous, listed }
}

impl Saved {
    fn damaged(&self, damage: Damage) -> Vec<u8> {
        let mut file = self.current.clone();
        match damage {
            Damage::Flipped(at) => file[at] ^= 0x5a,
            Damage::Cut(at) => file.truncate(at),
        }
        file
    }

    /// What can still be known: all but what stands in a block that is no longer whole. Without its header a file is none, and the one
    /// before it is read.
    fn expected(&self, damage: Damage) -> Listed {
        let touched = match damage {
            Damage::Flipped(at) | Damage::Cut(at) if at < HEADER_BYTES => return self.listed.clone(),
            Damage::Flipped(at) => at..at + 1,
            Damage::Cut(at) => at..usize::MAX,
        };
        let is_whole = |block: &Range<usize>| block.end <= touched.start || touched.end <= block.start;
        let ids: Vec<String> = blocks(&self.current).into_iter().filter(|(block, _)| is_whole(block)).flat_map(|(_, ids)| ids).collect();
        ids.into_iter().map(|id| (id.clone(), self.listed[&id].clone())).collect()
    }

    fn lay_into(&self, folder: &Path, damage: Damage) {
        std::fs::write(folder.join("warm"), self.damaged(damage)).expect("a file");
        std::fs::write(folder.join("warm.previous"), &self.previous).expect("a file");
    }
}

/// Places spread over the whole file, the first of them in its header.
fn offsets(length: usize) -> impl Iterator<Item = usize> {
    (0..OFFSETS).map(move |number| HEADER_BYTES / 2 + number * (length - HEADER_BYTES) / OFFSETS)
}

async fn start_on(saved: &Saved, damage: Damage) {
    let folder = tempfile::tempdir().expect("a folder");
    saved.lay_into(folder.path(), damage);
    let node = Node::start_alone_in("n1", folder.path()).await;
    node.ready().await;
    let (listed, expected) = (list(&node).await, saved.expected(damage));
    let missing: Vec<&String> = expected.keys().filter(|id| !listed.contains_key(*id)).collect();
    let more: Vec<&String> = listed.keys().filter(|id| !expected.contains_key(*id)).collect();
    assert_eq!((missing, more), (Vec::new(), Vec::new()), "who is missing, and who is there beyond, {damage:?} of {}", saved.current.len());
    assert!(listed == expected, "somebody is listed as what nobody registered, {damage:?}");
    let is_said = ["a part of the warm file is lost", "the warm file is not used"].iter().any(|words| node.log().contains(words));
    assert!(is_said, "nothing was said of the damage, {damage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_costs_a_block_and_never_the_start() {
    let saved = save().await;
    let blocks = blocks(&saved.current);
    let most = blocks.iter().map(|(_, ids)| ids.len()).max().unwrap_or(0);
    assert!(blocks.len() > 3 && most < INSTANCES / 2, "{} blocks, of which one holds {most}: too few to tell", blocks.len());
    // A flipped byte costs one block at most, whatever is expected of it below.
    for at in offsets(saved.current.len()) {
        let left = saved.expected(Damage::Flipped(at)).len();
        assert!(left + most >= INSTANCES, "byte {at} costs {} instances", INSTANCES - left);
    }
    let damages = offsets(saved.current.len()).flat_map(|at| [Damage::Flipped(at), Damage::Cut(at)]);
    futures_util::stream::iter(damages).for_each_concurrent(AT_ONCE, |damage| start_on(&saved, damage)).await;
}
