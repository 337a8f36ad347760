//! Whole configurations: the cases of `tests/config`, and what no single file can show.
//!
//! `valid/*.yaml` must load, and print as something that loads and prints the same. `invalid/*.yaml` must fail with exactly
//! the text beside it in `*.txt`.

use super::*;
use proptest::prelude::*;
use std::fs;
use std::time::Duration;

/// Where the cases are.
fn cases(kind: &str) -> Vec<PathBuf> {
    let root = std::env::var("BACKSTOP_CONFIG_TESTS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config").to_string());
    let directory = Path::new(&root).join(kind);
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    paths.sort();
    paths
}

/// A directory that goes when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("backstop-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The errors of a file, its directory left out.
    fn errors(&self, name: &str) -> String {
        let errors = load(&self.0.join(name))
            .err()
            .unwrap_or_else(|| panic!("{name} loads"));
        errors
            .to_string()
            .replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const LISTENERS: &str = "listeners: [{ address: 127.0.0.1:8080 }]\n";
const RESPOND: &str = "routes: [{ respond: { status: 204 } }]\n";

fn loaded(text: &str) -> Loaded {
    let directory = Directory::new(&format!("{:x}", text.len() * 31 + text.as_ptr() as usize));
    let path = directory.write("backstop.yaml", text);
    load(&path).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn valid_files_load_and_print_the_same_again() {
    let paths = cases("valid");
    assert!(paths.len() >= 5);
    for path in paths {
        let first = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        let printed = print(&first);
        let again = loaded(&printed);
        assert_eq!(print(&again), printed, "{}", path.display());
        assert_eq!(again.settings, first.settings, "{}", path.display());
    }
}

#[test]
fn invalid_files_fail_with_the_text_beside_them() {
    let paths = cases("invalid");
    assert!(paths.len() >= 35);
    let mut wrong = Vec::new();
    for path in paths {
        let beside = path.with_extension("txt");
        let expected = fs::read_to_string(&beside)
            .unwrap_or_else(|error| panic!("{}: {error}", beside.display()));
        let directory = format!("{}/", path.parent().unwrap().display());
        let found = match load(&path) {
            Ok(_) => "it loads".to_string(),
            Err(errors) => errors.to_string().replace(&directory, ""),
        };
        if found.trim_end() != expected.trim_end() {
            wrong.push(format!(
                "{}\n--- expected\n{expected}\n--- found\n{found}\n",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_shipped_files_load() {
    let root = Path::new(
        &std::env::var("BACKSTOP_CONFIG_TESTS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config").to_string()),
    )
    .join("../..");
    let shipped =
        load(&root.join("conf/backstop.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        (shipped.routing.routes.len(), shipped.routing.backends()),
        (1, 3)
    );
    assert!(shipped.files[1].ends_with("upstreams.yaml"));
}

/// What the shipped files propose in comments can be had by taking away the "#".
#[test]
fn the_comments_of_the_shipped_files_load() {
    let root = Path::new(
        &std::env::var("BACKSTOP_CONFIG_TESTS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config").to_string()),
    )
    .join("../..");
    let shipped = load(&root.join("conf/backstop.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let directory = Directory::new("comments");
    for name in ["conf/backstop.yaml", "upstreams.yaml"] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        let lines = text.lines().map(|line| {
            let example = line.trim_start().strip_prefix("# ").filter(|comment| {
                let key = comment.split(": ").next().unwrap_or_default();
                key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            });
            let indent = &line[..line.len() - line.trim_start().len()];
            example.map_or(line.to_string(), |example| format!("{indent}{example}"))
        });
        directory.write(name, lines.collect::<Vec<_>>().join("\n"));
    }
    let all = load(&directory.0.join("conf/backstop.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let print = print(&all);
    for key in ["ttl: 2m", "codings:", "path: /var/cache/backstop"] {
        assert!(print.contains(key), "{key} in {print}");
    }
    // All else is what holds anyway.
    assert_eq!(
        shipped.settings.changed_keys(&all.settings),
        ["cache", "state_file"]
    );
}

#[test]
fn two_files_are_read_and_their_errors_come_together() {
    let directory = Directory::new("two");
    directory.write(
        "conf/a.yaml",
        format!("{LISTENERS}upstreams_file: ../u.yaml\n"),
    );
    directory.write("u.yaml", RESPOND);
    let loaded = load(&directory.0.join("conf/a.yaml")).unwrap();
    assert_eq!(
        loaded.files,
        [directory.0.join("conf/a.yaml"), directory.0.join("u.yaml")]
    );

    directory.write(
        "conf/a.yaml",
        "listeners: []\nupstreams_file: ../u.yaml\nworker: 3\n",
    );
    directory.write(
        "u.yaml",
        "routes:\n- { respond: { status: 99 } }\n- { redirect: {} }\n",
    );
    assert_eq!(
        directory.errors("conf/a.yaml"),
        "conf/a.yaml:3: worker: unknown key\n  \
           help: did you mean \"workers\"? (known here: listeners, upstreams_file, trusted_proxies, clients, workers, pre_drain, drain_timeout, resolver, cache, acme, admin, access_log, and 4 more)\n\
         u.yaml:2: routes[0].respond.status: expected a whole number from 200 to 599, found the number 99\n\
         u.yaml:3: routes[1].redirect.to: required, but missing"
    );
    directory.write("u.yaml", "routes: [\n");
    assert!(
        directory
            .errors("conf/a.yaml")
            .contains("u.yaml:1: cannot be read as YAML: ")
    );
    directory.write(
        "conf/a.yaml",
        format!("{LISTENERS}upstreams_file: gone.yaml\n"),
    );
    assert_eq!(
        directory.errors("conf/a.yaml"),
        "conf/gone.yaml: there is no such file"
    );
    directory.write("u.yaml", format!("{RESPOND}---\n{RESPOND}"));
    directory.write(
        "conf/a.yaml",
        format!("{LISTENERS}upstreams_file: ../u.yaml\n"),
    );
    assert!(
        directory
            .errors("conf/a.yaml")
            .starts_with("u.yaml:3: the file holds a second document")
    );
}

#[test]
fn what_is_no_readable_file() {
    let directory = Directory::new("files");
    let valid = format!("{LISTENERS}---\n{RESPOND}");
    directory.write("bom.yaml", format!("\u{feff}{valid}"));
    directory.write("crlf.yaml", valid.replace('\n', "\r\n"));
    for name in ["bom.yaml", "crlf.yaml"] {
        assert!(load(&directory.0.join(name)).is_ok(), "{name}");
    }
    directory.write("empty.yaml", "");
    directory.write("comments.yaml", "# nothing\n---\n# more\n");
    directory.write("latin.yaml", b"listeners:\n# \xe9\n");
    directory.write("large.yaml", " ".repeat(8 * 1024 * 1024 + 1));
    directory.write("nul.yaml", "listeners: \0\n");
    fs::create_dir_all(directory.0.join("directory.yaml")).unwrap();
    for (name, message) in [
        ("empty.yaml", ": the file is empty"),
        ("comments.yaml", ": the file is empty"),
        ("latin.yaml", ":2: the file is not UTF-8 text"),
        ("large.yaml", ": the file is larger than 8 MiB"),
        ("directory.yaml", ": this is a directory, not a file"),
        ("missing.yaml", ": there is no such file"),
    ] {
        assert_eq!(directory.errors(name), format!("{name}{message}"));
    }
    assert!(
        directory.errors("nul.yaml").contains("as YAML"),
        "{}",
        directory.errors("nul.yaml")
    );
}

#[test]
fn more_errors_than_are_shown() {
    let directory = Directory::new("many");
    let routes: String = (0..60)
        .map(|i| format!("- {{ upstream: u{i} }}\n"))
        .collect();
    directory.write("a.yaml", format!("{LISTENERS}---\nroutes:\n{routes}"));
    let errors = load(&directory.0.join("a.yaml")).err().unwrap();
    // Each names an upstream that is not there, and all but the first match what the first matches.
    assert_eq!((errors.iter().count(), errors.count()), (50, 119));
    assert!(errors.to_string().ends_with("\nand 69 more"));
}

#[test]
fn what_is_compiled() {
    use crate::policy::cache::{Lifetime, Per};
    use crate::policy::encoding::Coding;
    use crate::policy::retry::{Methods, Wait};
    use crate::policy::route::Action;
    use crate::policy::router::Found;
    let text = "\
listeners: [{ address: 127.0.0.1:8080 }]
---
defaults:
  upstream: b
  retry: { tries: 7, wait: { initial: 1s }, on: [503] }
  timeouts: { total: 5s }
  cache: { ttl: 2m, per: [{ cookie: session }] }
  compress: { codings: [gzip], min_size: 2KiB }
  headers: { request: { set: { X-A: a } }, response: { set: { X-R: r } } }
upstreams:
  a: { balance: { hash: { on: { header: X-User } } }, backends: [127.0.0.1:1, { address: b.test:2, weight: 3, backup: true }] }
  b: { backends: [127.0.0.1:3], keepalive: { idle: 1s } }
routes:
- retry: { wait: { max: 9s }, methods: [POST] }
- { match: { exact_path: /x, host: H.test, methods: [GET] }, upstream: a, set_path: /y, cache: { max_object: 1KiB }, compress: { codings: [br, zstd] } }
- { match: { path: /live }, cache: off, compress: off }
- { match: { path: /said }, cache: { respect_origin: true } }
- { match: { path: /gone }, respond: { status: 404, body: no } }
";
    let loaded = loaded(text);
    let routing = &loaded.routing;
    let find = |host, path| match routing.router.find(host, path, &http::Method::GET) {
        Found::Route(route) => route.clone(),
        other => panic!("{other:?}"),
    };
    let first = find("any", "/any");
    assert_eq!(first.name, "*/");
    let Action::Proxy(proxy) = &first.action else {
        panic!("{first:?}")
    };
    assert_eq!(routing.upstreams[proxy.upstream].name, "b");
    assert_eq!(
        (proxy.retry.tries, &proxy.retry.on.statuses[..]),
        (7, &[503][..])
    );
    assert!(!proxy.retry.on.timeout);
    let growing = Wait::Growing {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(9),
        jitter: 0.2,
    };
    assert_eq!(proxy.retry.wait, growing);
    assert_eq!(proxy.retry.methods, Methods::Only(vec![http::Method::POST]));
    assert_eq!(proxy.timeouts.total, Duration::from_secs(5));
    assert_eq!(proxy.timeouts.connect, Duration::from_secs(2));
    assert_eq!(
        (
            proxy.request_headers.set.len(),
            first.response_headers.set.len()
        ),
        (1, 1)
    );
    let gone = find("any", "/gone");
    assert!(
        matches!(&gone.action, Action::Respond(r) if r.body == "no" && r.content_type == "text/plain")
    );
    assert_eq!(gone.response_headers.set.len(), 1);
    assert_eq!(find("h.test", "/x").name, "h.test/x");
    let cache = |host, path| match &find(host, path).action {
        Action::Proxy(proxy) => proxy.cache.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(cache("any", "/any").unwrap().max_object, 1 << 20);
    let own = cache("h.test", "/x").unwrap();
    let ttl = Lifetime::Ttl(Duration::from_secs(120));
    assert_eq!((own.lifetime, own.max_object), (ttl, 1024));
    assert_eq!(own.per, [Per::Cookie("session".to_string())]);
    assert_eq!(cache("any", "/live"), None);
    let upstream = &routing.upstreams[0];
    assert_eq!(upstream.backends[1].address.to_string(), "b.test:2");
    assert_eq!(
        (upstream.backends[1].weight, upstream.backends[1].backup),
        (3, true)
    );
    assert_eq!(upstream.keepalive_idle, Duration::from_secs(55));
    assert_eq!((routing.routes.len(), routing.backends()), (5, 3));
    let codings = |host, path| match &find(host, path).action {
        Action::Proxy(proxy) => proxy.compress.clone().map(|compress| compress.codings),
        other => panic!("{other:?}"),
    };
    assert_eq!(codings("any", "/any"), Some(vec![Coding::Gzip]));
    let own = Some(vec![Coding::Brotli, Coding::Zstd]);
    assert_eq!(codings("h.test", "/x"), own);
    assert_eq!(codings("any", "/live"), None);
    assert_eq!(cache("any", "/said").unwrap().lifetime, Lifetime::Origin);
    assert_eq!(loaded.settings.cache.memory, 64 << 20);
}

#[test]
fn answers_without_a_route_have_what_the_defaults_say() {
    let defaults = "defaults: { security_headers: true, cors: { origins: any } }\n";
    let own = "routes: [{ respond: { status: 204 }, security_headers: false, cors: off }]\n";
    let loaded = loaded(&format!("{LISTENERS}---\n{defaults}{own}"));
    let unrouted = loaded.routing.unrouted.as_ref().unwrap();
    assert!(unrouted.security_headers && unrouted.cors.is_some());
    assert_eq!(loaded.routing.routes[0].answers, None);
    assert!(print(&loaded).contains("defaults:\n"), "{}", print(&loaded));
    let directory = Directory::new("unrouted");
    let path = directory.write("a.yaml", format!("{LISTENERS}---\n{RESPOND}"));
    let nothing = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(nothing.routing.unrouted, None);
    assert!(!print(&nothing).contains("defaults:"));
}

/// Text that is nearly a configuration: a valid one with some of its characters changed.
fn mutated() -> impl Strategy<Value = String> {
    let valid: Vec<String> = cases("valid")
        .iter()
        .map(|p| fs::read_to_string(p).unwrap())
        .collect();
    let piece = prop_oneof![
        "[\\[\\]{}:,&*!|>'\"%@`#?<~ \n-]{1,3}",
        "\\PC{1,4}",
        Just("\n  ".to_string()),
        Just("<<: *a".to_string()),
        Just("---\n".to_string()),
        Just("99999999999999999999".to_string()),
        Just("null".to_string()),
        Just(String::new()),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, piece), 1..6);
    (prop::sample::select(valid), changes).prop_map(|(text, changes)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, cut, piece) in changes {
            let at = at.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

/// Loading ends, without a panic, in a configuration or in errors; every line named is one of the file's.
fn holds(name: &str, text: &str) -> Result<(), TestCaseError> {
    let directory = Directory::new(name);
    let path = directory.write("a.yaml", text);
    match load(&path) {
        Ok(loaded) => {
            let printed = print(&loaded);
            let again = directory.write("b.yaml", &printed);
            let again = load(&again).map_err(|e| TestCaseError::fail(format!("{e}\n{printed}")))?;
            prop_assert_eq!(print(&again), printed);
        }
        Err(errors) => {
            prop_assert!(errors.iter().count() > 0);
            let lines = text.split('\n').count().max(1);
            for error in errors.iter().filter(|error| error.file == path) {
                prop_assert!(
                    error.line.is_none_or(|line| (1..=lines).contains(&line)),
                    "{}",
                    error
                );
                prop_assert!(!error.message.contains('\n'), "{}", error);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,60}|[a-z:\\[\\]{}&*!|>\"' \n-]{0,60}") {
        holds("text", &text)?;
    }

    #[test]
    fn no_changed_file_panics(text in mutated()) {
        holds("changed", &text)?;
    }
}
