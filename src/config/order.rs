//! `after` against the order of the tree.
//!
//! Starts follow the `children` lists, and `after` reaches across them; both together must be one order. Under
//! `one_for_one` the order of a list has no other meaning, so it is sorted to fit, as little as possible.
//! Under `rest_for_one` and `one_for_all` it decides what a restart touches, so it is left alone and a
//! contradiction is an error. Seen from a supervisor, a worker deep below is the child it is in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use crate::id::Name;
use crate::policy::RestartStrategy;

use super::diagnostic::Problem;
use super::document::Place;
use super::tree::Tree;

/// One `after`: `worker` waits for `dependency`.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) worker: Name,
    pub(super) dependency: Name,
    pub(super) place: Option<Place>,
}

/// Workers that wait for each other; true if there are any.
pub(super) fn circles(waits: &[Wait], problems: &mut Vec<Problem>) -> bool {
    let mut by_worker: BTreeMap<&Name, Vec<&Wait>> = BTreeMap::new();
    for wait in waits {
        by_worker.entry(&wait.worker).or_default().push(wait);
    }
    let mut done: HashSet<&Name> = HashSet::new();
    let mut found = false;
    for start in by_worker.keys() {
        // Depth first without recursion: a chain may be as long as there are workers.
        let mut path: Vec<(&Name, usize)> = vec![(start, 0)];
        let mut on_path: HashSet<&Name> = HashSet::from([*start]);
        while let Some((at, next)) = path.last_mut() {
            let wait = by_worker.get(at).and_then(|waits| waits.get(*next)).copied();
            *next += 1;
            match wait.filter(|_| !done.contains(*at)) {
                None => {
                    on_path.remove(*at);
                    done.insert(at);
                    path.pop();
                }
                Some(wait) if on_path.contains(&wait.dependency) => {
                    found = true;
                    let names: Vec<&Name> = path.iter().map(|(name, _)| *name).collect();
                    problems.push(circle(&names, wait));
                }
                Some(wait) => {
                    if !done.contains(&wait.dependency) {
                        path.push((&wait.dependency, 0));
                        on_path.insert(&wait.dependency);
                    }
                }
            }
        }
    }
    found
}

fn circle(path: &[&Name], closing: &Wait) -> Problem {
    let from = path.iter().position(|name| **name == closing.dependency).unwrap_or(0);
    let mut chain: Vec<String> = path[from..].iter().map(|name| format!("`{name}`")).collect();
    chain.push(format!("`{}`", closing.dependency));
    let title = if path.len() - from == 1 {
        format!("`{}` waits for itself", closing.worker)
    } else {
        format!("these workers wait for each other: {}", chain.join(" after "))
    };
    Problem::new(closing.place.clone(), title)
        .help("none of them could ever start; take one name out of an `after`")
}

/// Sorts the lists of the tree so that nobody starts before what it waits for, or says why that cannot be.
pub(super) fn arrange(
    tree: &mut Tree,
    strategies: &HashMap<Name, RestartStrategy>,
    waits: &[Wait],
    problems: &mut Vec<Problem>,
) {
    for (parent, edges) in project(tree, waits) {
        let Some(list) = tree.children.get_mut(&parent) else { continue };
        let strategy = strategies.get(&parent).copied().unwrap_or(RestartStrategy::OneForOne);
        match strategy {
            RestartStrategy::OneForOne | RestartStrategy::SimpleOneForOne => match sorted(list, &edges) {
                Ok(better) => *list = better,
                Err(crossing) => problems.push(crossed(&crossing)),
            },
            RestartStrategy::RestForOne | RestartStrategy::OneForAll => {
                problems.extend(against(list, &edges, &parent, strategy));
            }
        }
    }
}

/// One `after` as a supervisor sees it: its child `later` must start behind its child `earlier`.
#[derive(Debug, Clone)]
struct Edge<'a> {
    earlier: Name,
    later: Name,
    wait: &'a Wait,
}

/// Each `after` belongs to the lowest supervisor above both workers.
fn project<'a>(tree: &Tree, waits: &'a [Wait]) -> BTreeMap<Name, Vec<Edge<'a>>> {
    let mut edges: BTreeMap<Name, Vec<Edge<'a>>> = BTreeMap::new();
    for wait in waits {
        let (later, earlier) = (tree.path(&wait.worker), tree.path(&wait.dependency));
        let common = later.iter().zip(&earlier).take_while(|(a, b)| a == b).count();
        if let (Some(parent), Some(later), Some(earlier)) =
            (common.checked_sub(1).and_then(|at| later.get(at)), later.get(common), earlier.get(common))
        {
            let edge = Edge { earlier: earlier.clone(), later: later.clone(), wait };
            edges.entry(parent.clone()).or_default().push(edge);
        }
    }
    edges
}

/// The order nearest to `list` that fits; else the edges of one circle among children.
fn sorted<'e, 'a>(list: &[Name], edges: &'e [Edge<'a>]) -> Result<Vec<Name>, Vec<&'e Edge<'a>>> {
    let index: HashMap<&Name, usize> = list.iter().enumerate().map(|(at, name)| (name, at)).collect();
    let at = |name: &Name| index.get(name).copied();
    let pairs: HashSet<(usize, usize)> =
        edges.iter().filter_map(|edge| Some((at(&edge.earlier)?, at(&edge.later)?))).collect();
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); list.len()];
    let mut missing = vec![0_usize; list.len()];
    for (earlier, later) in pairs {
        followers[earlier].push(later);
        missing[later] += 1;
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..list.len()).filter(|at| missing[*at] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(list.len());
    while let Some(Reverse(next)) = ready.pop() {
        order.push(list[next].clone());
        for later in &followers[next] {
            missing[*later] -= 1;
            if missing[*later] == 0 {
                ready.push(Reverse(*later));
            }
        }
    }
    if order.len() == list.len() {
        return Ok(order);
    }
    Err(one_circle(edges, |name| at(name).is_some_and(|at| missing[at] > 0)))
}

/// Follows edges back from a child that is left over until one comes up again.
fn one_circle<'e, 'a>(edges: &'e [Edge<'a>], left: impl Fn(&Name) -> bool) -> Vec<&'e Edge<'a>> {
    let before = |name: &Name| edges.iter().find(|edge| edge.later == *name && left(&edge.earlier));
    let mut walk: Vec<&Edge<'a>> = Vec::new();
    let mut at = edges.iter().find(|edge| left(&edge.later) && left(&edge.earlier));
    while let Some(edge) = at {
        if let Some(from) = walk.iter().position(|old| old.later == edge.later) {
            return walk.split_off(from);
        }
        walk.push(edge);
        at = before(&edge.earlier);
    }
    walk
}

fn crossed(circle: &[&Edge<'_>]) -> Problem {
    let told: Vec<String> = circle
        .iter()
        .map(|edge| {
            let Wait { worker, dependency, .. } = edge.wait;
            format!("{} waits for {}", inside(worker, &edge.later), inside(dependency, &edge.earlier))
        })
        .collect();
    let first = circle.first().and_then(|edge| edge.wait.place.clone());
    let second = circle.get(1).and_then(|edge| edge.wait.place.clone());
    Problem::new(first, format!("these groups would each have to start first: {}", told.join(", and ")))
        .also(second, "and the other way round here")
        .help("a supervisor starts its children as one block: move a worker into the other group, or drop one of these names")
}

/// `` `web` (in `front`) ``, or only `` `web` `` if it is the child itself.
fn inside(worker: &Name, child: &Name) -> String {
    if worker == child { format!("`{worker}`") } else { format!("`{worker}` (in `{child}`)") }
}

fn against(list: &[Name], edges: &[Edge<'_>], parent: &Name, strategy: RestartStrategy) -> Vec<Problem> {
    let index: HashMap<&Name, usize> = list.iter().enumerate().map(|(at, name)| (name, at)).collect();
    let word = match strategy {
        RestartStrategy::RestForOne => "rest_for_one",
        RestartStrategy::OneForAll => "one_for_all",
        RestartStrategy::OneForOne | RestartStrategy::SimpleOneForOne => "one_for_one",
    };
    let wrong = edges.iter().filter(|edge| index.get(&edge.earlier) > index.get(&edge.later));
    wrong
        .map(|edge| {
            let Edge { earlier, later, wait } = edge;
            let Wait { worker, dependency, place } = wait;
            Problem::new(
                place.clone(),
                format!("`{worker}` waits for `{dependency}`, but `{parent}` starts `{later}` before `{earlier}`"),
            )
            .help(format!(
                "under {word} the order of children decides what a restart touches, so it is not changed for you: \
                 list `{earlier}` before `{later}` in [supervisor.{parent}] children, or drop the `after`"
            ))
        })
        .collect()
}
