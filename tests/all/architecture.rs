//! The arrows that are allowed between crates, checked over Cargo's own metadata.
//!
//! Invariant: an allow-list. A crate without a layer, an arrow that no rule names, and a rule that names nothing that
//! exists are all faults, so neither a new crate nor a misspelt name slips through.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};
use harness::binaries;

/// What the crates of a folder may depend on.
struct Layer {
    /// Folders of its crates, from the root of the workspace.
    folders: &'static [&'static str],
    /// Crates of ours that it may use.
    may_use: &'static [&'static str],
    /// Crates of others that it must not use.
    never: &'static [&'static str],
}

const HTTP: [&str; 3] = ["actix-web", "reqwest", "hyper"];
const SQL: [&str; 3] = ["diesel", "rusqlite", "libsqlite3-sys"];

const LAYERS: &[Layer] = &[
    Layer {
        folders: &["platform"],
        may_use: &[],
        never: &["diesel", "rusqlite", "libsqlite3-sys", "reqwest"],
    },
    Layer { folders: &["platform/control"], may_use: &["platform"], never: &HTTP },
    Layer {
        folders: &["monolith/contracts"],
        may_use: &[],
        never: &["actix-web", "reqwest", "hyper", "diesel", "rusqlite", "libsqlite3-sys", "tokio"],
    },
    Layer { folders: &["monolith/db"], may_use: &["contracts", "platform", "pg-harness"], never: &HTTP },
    Layer {
        folders: &[
            "monolith/users",
            "monolith/catalog",
            "monolith/cart",
            "monolith/inventory",
            "monolith/orders",
            "monolith/payments",
            "monolith/shipping",
        ],
        may_use: &["contracts", "db", "platform"],
        never: &HTTP,
    },
    Layer { folders: &["monolith/rest"], may_use: &["contracts", "platform"], never: &SQL },
    Layer { folders: &["extracted/remote"], may_use: &["contracts", "platform", "control"], never: &SQL },
    Layer {
        folders: &["monolith/app"],
        may_use: &[
            "contracts",
            "db",
            "rest",
            "users",
            "catalog",
            "cart",
            "inventory",
            "orders",
            "payments",
            "shipping",
            "remote",
            "control",
            "platform",
        ],
        never: &[],
    },
    Layer {
        folders: &["extracted/users"],
        may_use: &["platform", "control", "contracts", "db", "rest", "remote"],
        never: &[],
    },
    Layer { folders: &["facade"], may_use: &["platform", "control"], never: &[] },
    Layer { folders: &["migrate"], may_use: &["platform", "control", "pg-harness"], never: &[] },
    Layer { folders: &["tests"], may_use: &["pg-harness"], never: &[] },
    Layer { folders: &["tests/postgres"], may_use: &[], never: &[] },
    Layer { folders: &["tests/payment-provider"], may_use: &["platform"], never: &SQL },
    Layer { folders: &["tests/bare-peer"], may_use: &[], never: &[] },
    Layer { folders: &["xtask"], may_use: &["harness", "pg-harness"], never: &[] },
];

/// Layers that stay free of the sample shop also in their tests: a team with a monolith of its own uses only these.
const STRANGERS_TO_THE_SHOP: [&str; 4] = ["platform", "platform/control", "facade", "migrate"];

/// One crate of the workspace.
#[derive(Debug, Clone, Default)]
struct Node {
    folder: String,
    ours: BTreeSet<String>,
    ours_in_tests: BTreeSet<String>,
    others: BTreeSet<String>,
}

type Graph = BTreeMap<String, Node>;

fn workspace_graph() -> Graph {
    let manifest = binaries::workspace().join("Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let names: BTreeSet<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let root = metadata.workspace_root.clone();
    let node = |package: &cargo_metadata::Package| {
        let folder = package.manifest_path.parent().unwrap().strip_prefix(&root).unwrap();
        let mut node = Node { folder: folder.to_string(), ..Node::default() };
        for dependency in &package.dependencies {
            let set = match (names.contains(&dependency.name), dependency.kind) {
                (true, DependencyKind::Development) => &mut node.ours_in_tests,
                (true, _) => &mut node.ours,
                (false, DependencyKind::Development) => continue,
                (false, _) => &mut node.others,
            };
            set.insert(dependency.name.clone());
        }
        node
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), node(package))).collect()
}

/// Every fault of the graph, in words.
fn faults(graph: &Graph) -> Vec<String> {
    let mut faults = rules_about_nothing(graph);
    for (name, node) in graph {
        let Some(layer) = LAYERS.iter().find(|layer| layer.folders.contains(&node.folder.as_str())) else {
            faults.push(format!("{name} in {} has no layer; give it one in this test", node.folder));
            continue;
        };
        for used in node.ours.iter().filter(|used| !layer.may_use.contains(&used.as_str())) {
            faults.push(format!("{name} must not depend on {used}"));
        }
        for used in node.others.iter().filter(|used| layer.never.contains(&used.as_str())) {
            faults.push(format!("{name} must not depend on the external crate {used}"));
        }
        if STRANGERS_TO_THE_SHOP.contains(&node.folder.as_str()) {
            let all = node.ours.union(&node.ours_in_tests);
            let shop =
                all.filter(|used| graph.get(*used).is_some_and(|used| used.folder.starts_with("monolith/")));
            faults.extend(
                shop.map(|used| format!("{name} must not know the sample shop, not even in tests: {used}")),
            );
        }
    }
    faults
}

/// Rules that name a folder or a crate that does not exist: they would hold whatever the graph looks like.
fn rules_about_nothing(graph: &Graph) -> Vec<String> {
    let folders: BTreeSet<&str> = graph.values().map(|node| node.folder.as_str()).collect();
    let used: BTreeSet<&str> = graph.values().flat_map(|node| &node.others).map(String::as_str).collect();
    let named_folders = LAYERS.iter().flat_map(|layer| layer.folders).chain(&STRANGERS_TO_THE_SHOP);
    let empty_folders = named_folders.filter(|folder| !folders.contains(*folder));
    let named_crates = LAYERS.iter().flat_map(|layer| layer.may_use);
    let empty_crates = named_crates.filter(|name| !graph.contains_key(**name));
    let bans = LAYERS.iter().flat_map(|layer| layer.never).filter(|name| !used.contains(*name));
    empty_folders
        .map(|folder| format!("a rule names the folder {folder}, where no crate is"))
        .chain(empty_crates.map(|name| format!("a rule allows {name}, which is no crate of ours")))
        .chain(bans.map(|name| format!("a rule forbids {name}, which nobody here uses; is it misspelt?")))
        .collect()
}

/// The real graph with one crate changed, and what the checker says of it.
fn faults_after(name: &str, change: impl FnOnce(&mut Node)) -> String {
    let mut graph = workspace_graph();
    change(graph.entry(name.to_owned()).or_default());
    faults(&graph).join("\n")
}

#[test]
fn the_workspace_keeps_its_arrows() {
    let faults = faults(&workspace_graph());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_crate_without_a_layer_is_a_fault() {
    let found = faults_after("helpers", |node| node.folder = "monolith/helpers".into());
    assert_eq!(found, "helpers in monolith/helpers has no layer; give it one in this test");
}

#[test]
fn a_context_that_uses_another_context_is_a_fault() {
    let found = faults_after("orders", |node| {
        node.ours.insert("users".into());
    });
    assert_eq!(found, "orders must not depend on users");
}

#[test]
fn a_rest_layer_that_uses_the_database_is_a_fault() {
    let found = faults_after("rest", |node| {
        node.ours.insert("db".into());
    });
    assert_eq!(found, "rest must not depend on db");
}

#[test]
fn a_context_that_speaks_http_is_a_fault() {
    let found = faults_after("users", |node| {
        node.others.insert("actix-web".into());
    });
    assert_eq!(found, "users must not depend on the external crate actix-web");
}

#[test]
fn a_private_wire_that_speaks_sql_is_a_fault() {
    let found = faults_after("remote", |node| {
        node.others.insert("diesel".into());
    });
    assert_eq!(found, "remote must not depend on the external crate diesel");
}

#[test]
fn a_migrate_that_knows_the_shop_is_a_fault_even_in_its_tests() {
    let found = faults_after("migrate", |node| {
        node.ours_in_tests.insert("users".into());
    });
    assert_eq!(found, "migrate must not know the sample shop, not even in tests: users");
    let found = faults_after("facade", |node| {
        node.ours.insert("contracts".into());
    });
    assert!(found.starts_with("facade must not depend on contracts"), "{found}");
}

#[test]
fn a_rule_about_a_crate_that_is_gone_is_a_fault() {
    let mut graph = workspace_graph();
    graph.remove("catalog");
    let found = faults(&graph).join("\n");
    assert!(found.contains("a rule names the folder monolith/catalog, where no crate is"), "{found}");
    assert!(found.contains("a rule allows catalog, which is no crate of ours"), "{found}");
}

#[test]
fn a_ban_on_a_crate_that_nobody_uses_is_a_fault() {
    let mut graph = workspace_graph();
    for node in graph.values_mut() {
        node.others.remove("reqwest");
    }
    assert!(
        faults(&graph)
            .contains(&"a rule forbids reqwest, which nobody here uses; is it misspelt?".to_owned())
    );
}
