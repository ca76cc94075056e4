//! Who is whose child: `children` lists, the root's share, and nesting that must end.

use std::collections::{HashMap, HashSet};

use crate::id::Name;

use super::check::Places;
use super::diagnostic::{Problem, quoted};
use super::document::Place;
use super::schema::Kind;
use super::suggest::nearest;

/// The tree: every name but `root` has exactly one parent.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) children: HashMap<Name, Vec<Name>>,
    pub(super) parent: HashMap<Name, Name>,
}

impl Tree {
    /// From the root down to a name, both included.
    pub(super) fn path(&self, name: &Name) -> Vec<Name> {
        let mut path = vec![name.clone()];
        let mut at = name;
        while let Some(parent) = self.parent.get(at) {
            path.push(parent.clone());
            at = parent;
        }
        path.reverse();
        path
    }
}

/// Reads the `children` lists of all supervisors; `None` if supervisors contain each other.
pub(super) fn build(
    lists: &[(Name, Vec<String>)],
    places: &Places,
    problems: &mut Vec<Problem>,
) -> Option<Tree> {
    shared_names(places, problems);
    let mut tree = Tree::default();
    let mut listed_at: HashMap<Name, Option<Place>> = HashMap::new();
    let known: HashSet<&str> = in_tree(places).map(Name::as_str).collect();
    for (parent, list) in lists {
        let mut children = Vec::new();
        for (index, text) in list.iter().enumerate() {
            let place = places.value(&format!("supervisor.{parent}.children[{index}]")).cloned();
            let Some(name) = child(text, parent, &known, place.clone(), places, problems) else { continue };
            if let Some(other) = tree.parent.get(&name) {
                let title = if other == parent {
                    format!("`{name}` stands twice in this list")
                } else {
                    format!("`{name}` is already a child of `{other}`")
                };
                let first = listed_at.get(&name).cloned().flatten();
                problems.push(
                    Problem::new(place, title).also(first, "first listed here").help("a name has one parent"),
                );
                continue;
            }
            tree.parent.insert(name.clone(), parent.clone());
            listed_at.insert(name.clone(), place);
            children.push(name);
        }
        tree.children.insert(parent.clone(), children);
    }
    give_rest_to_root(&mut tree, places);
    if cycles(&tree, &listed_at, problems) { None } else { Some(tree) }
}

/// Everybody who has a place in the tree: a template has none.
fn in_tree(places: &Places) -> impl Iterator<Item = &Name> {
    places.names.iter().filter(|(kind, _)| *kind != Kind::Template).map(|(_, name)| name)
}

fn child(
    text: &str,
    parent: &Name,
    known: &HashSet<&str>,
    place: Option<Place>,
    places: &Places,
    problems: &mut Vec<Problem>,
) -> Option<Name> {
    let name = Name::try_new(text).ok().filter(|name| known.contains(name.as_str()));
    let Some(name) = name else {
        // A bad name has been reported where it is given.
        if !places.named(&format!("worker.{text}")) && !places.named(&format!("supervisor.{text}")) {
            let word = nearest(text, known.iter().copied().filter(|name| *name != "root"));
            let title = format!("there is no worker or supervisor {}", quoted(text));
            problems.push(Problem::new(place, title).suggest(word).missing());
        }
        return None;
    };
    if name == Name::root() || name == *parent {
        let title = if name == *parent {
            format!("`{name}` lists itself")
        } else {
            "`root` is the top of the tree and nobody's child".to_owned()
        };
        problems.push(Problem::new(place, title));
        return None;
    }
    Some(name)
}

/// Workers and supervisors share one name space.
fn shared_names(places: &Places, problems: &mut Vec<Problem>) {
    let supervisors: HashSet<&Name> =
        places.names.iter().filter(|(kind, _)| *kind == Kind::Supervisor).map(|(_, name)| name).collect();
    for (kind, name) in &places.names {
        if *kind == Kind::Worker && supervisors.contains(name) {
            let (worker, supervisor) = (format!("worker.{name}"), format!("supervisor.{name}"));
            let built_in = *name == Name::root();
            let title = if built_in {
                "`root` is the supervisor that is always there and cannot be a worker".to_owned()
            } else {
                format!("`{name}` is a worker and a supervisor: both share one name space")
            };
            let other = places.key(&supervisor).filter(|_| !built_in).cloned();
            problems.push(
                Problem::new(places.key(&worker).cloned(), title).also(other, "the supervisor of that name"),
            );
        }
    }
}

fn give_rest_to_root(tree: &mut Tree, places: &Places) {
    let root = Name::root();
    let mut rest = Vec::new();
    for name in in_tree(places) {
        if *name != root && !tree.parent.contains_key(name) {
            tree.parent.insert(name.clone(), root.clone());
            rest.push(name.clone());
        }
    }
    tree.children.entry(root).or_default().extend(rest);
}

fn cycles(tree: &Tree, listed_at: &HashMap<Name, Option<Place>>, problems: &mut Vec<Problem>) -> bool {
    let mut done: HashSet<&Name> = HashSet::new();
    let mut found = false;
    let mut starts: Vec<&Name> = tree.parent.keys().collect();
    starts.sort();
    for start in starts {
        let mut seen: Vec<&Name> = Vec::new();
        let mut at = start;
        while !done.contains(at) {
            if let Some(from) = seen.iter().position(|name| *name == at) {
                found = true;
                problems.push(nesting(&seen[from..], listed_at));
                break;
            }
            seen.push(at);
            match tree.parent.get(at) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        done.extend(seen);
    }
    found
}

fn nesting(cycle: &[&Name], listed_at: &HashMap<Name, Option<Place>>) -> Problem {
    let place = cycle.first().and_then(|name| listed_at.get(*name).cloned().flatten());
    let mut chain: Vec<String> = cycle.iter().map(|name| format!("`{name}`")).collect();
    chain.extend(chain.first().cloned());
    Problem::new(place, format!("supervisors contain each other: {}", chain.join(" is a child of ")))
        .help("take one of them out of the other's `children`")
}
