//! Patterns against paths, the shipped list against paths of all kinds of sites, and any pattern against a plain matcher.

use super::*;
use proptest::prelude::*;

#[test]
fn what_patterns_stand_for() {
    for (pattern, meant, not) in [
        (
            "/internal/",
            &["/internal", "/internal/", "/internal/a/b", "/INTERNAL/x"][..],
            &["/internals", "/a/internal", "/"][..],
        ),
        ("/a/b", &["/a/b", "/a/b/", "/a/b/c"], &["/a", "/a/bc", "/b"]),
        (
            "*/.git",
            &["/.git", "/.git/config", "/app/.git/HEAD", "/.GIT"],
            &["/.gitignore", "/a.git", "/git"],
        ),
        (
            "*/.env.*",
            &["/.env.local", "/app/.env.prod", "/.env.a/b"],
            &["/.env", "/x.env.local"],
        ),
        (
            "*/owa/auth",
            &["/owa/auth", "/a/owa/auth/logon.aspx"],
            &["/owa", "/owa/authx", "/xowa/auth"],
        ),
        ("*.bak", &["/a.bak", "/x/y.BAK"], &["/a.bak/x", "/bak"]),
        (
            "/a*z",
            &["/az", "/abz", "/a/b/z"],
            &["/a", "/abzx", "/b/az"],
        ),
        ("*", &["/", "/x"], &[]),
    ] {
        let list = Blocklist::new([pattern], []);
        for path in meant {
            assert!(list.contains(path), "{pattern} {path}");
        }
        for path in not {
            assert!(!list.contains(path), "{pattern} {path}");
        }
    }
}

#[test]
fn exceptions_are_not_meant() {
    let list = Blocklist::new(["*/wp-login.php", "/x"], ["/WP-login.php"]);
    assert!(!list.contains("/wp-login.php"));
    assert!(list.contains("/blog/wp-login.php") && list.contains("/x"));
}

const SHIPPED: &str = include_str!("../../../conf/blocklists/scanners.txt");

#[test]
fn the_shipped_list_means_scanners_and_nobody_else() {
    let list = Blocklist::new(Blocklist::lines(SHIPPED), []);
    for path in [
        "/.env",
        "/api/.env.production",
        "/.git/config",
        "/wp-login.php",
        "/blog/wp-admin/setup-config.php",
        "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php",
        "/phpMyAdmin/index.php",
        "/actuator/heapdump",
        "/HNAP1",
        "/owa/auth/logon.aspx",
        "/cgi-bin/luci/;stok=",
        "/boaform/admin/formLogin",
        "/dana-na/auth",
        "/adminer-4.8.1.php",
        "/backup.sql",
    ] {
        assert!(list.contains(path), "{path}");
    }
    for path in [
        "/",
        "/index.html",
        "/index.php",
        "/favicon.ico",
        "/robots.txt",
        "/sitemap.xml",
        "/.well-known/security.txt",
        "/patients/17",
        "/api/v1/users",
        "/admin",
        "/login",
        "/environment",
        "/git",
        "/static/app.js",
        "/images/a.png",
        "/docs/config",
        "/wordpress-tips",
        "/blog/the-env-file",
        "/actuator/health",
        "/metrics",
        "/graphql",
        "/auth/callback",
        "/manager",
        "/console",
        "/search",
        "/v1/agent",
        "/upload",
        "/shop/cart",
        "/wp-content/themes/a/style.css",
    ] {
        assert!(!list.contains(path), "{path}");
    }
    let count = Blocklist::lines(SHIPPED).count();
    assert!(count > 150, "{count}");
}

/// The same as [`fits`], by trying everything.
fn plain(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| plain(rest, &text[skip..])),
        Some((one, rest)) => text.first() == Some(one) && plain(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn stars_stand_for_anything(pattern in "[ab/]{0,3}(\\*[ab/]{0,3}){0,3}", text in "[ab/]{0,8}") {
        let pieces: Vec<Box<str>> = pattern.split('*').map(Into::into).collect();
        prop_assert_eq!(fits(&pieces, &text), plain(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn any_path_can_be_asked_for(path in "/.{0,40}") {
        Blocklist::new(Blocklist::lines(SHIPPED), []).contains(&path);
    }
}
