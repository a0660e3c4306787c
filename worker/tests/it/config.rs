//! The settings.

use actionflow_worker::config::{AddressPolicy, Args, Config, LogFormat};
use actionflow_worker::ingress::TrustedProxies;
use clap::{CommandFactory as _, Parser as _};

fn parse(flags: &[&str]) -> Result<Config, Vec<String>> {
    let line = ["actionflow-worker"].iter().chain(flags);
    Config::parse(&Args::try_parse_from(line).unwrap()).map_err(|error| error.0)
}

#[test]
fn the_database_is_all_that_must_be_given() {
    let config = parse(&["--database-url", "postgres://worker@localhost/shop"]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.concurrency, 1024);
    assert_eq!(config.addresses, AddressPolicy::PublicOnly);
    assert_eq!(config.ingress_connections, 8);
    assert_eq!(config.trusted_proxies, TrustedProxies::default());
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn every_flag_is_read() {
    let flags = [
        "--database-url=host=localhost dbname=shop",
        "--listen=[::1]:9000",
        "--concurrency=7",
        "--allow-private-addresses",
        "--ingress-connections=32",
        "--trusted-proxies=10.0.0.0/8, ::1",
        "--log-format=json",
        "--log=warn,actionflow_worker=debug",
    ];
    let config = parse(&flags).unwrap();
    assert_eq!(
        (config.listen.to_string().as_str(), config.concurrency),
        ("[::1]:9000", 7)
    );
    assert_eq!(
        (config.addresses, config.log.format),
        (AddressPolicy::Any, LogFormat::Json)
    );
    assert_eq!(config.ingress_connections, 32);
    let proxies = TrustedProxies::parse("10.0.0.0/8,::1/128").unwrap();
    assert_eq!(config.trusted_proxies, proxies);
}

#[test]
fn all_problems_are_reported_at_once_and_the_password_in_none() {
    let flags = [
        "--database-url=postgres://worker:hidden@localhost:notaport/shop",
        "--listen=8080",
        "--concurrency=0",
        "--ingress-connections=513",
        "--trusted-proxies=10.0.0.0/8,proxy.example.com",
        "--log-format=xml",
        "--log=a=b=c",
    ];
    let problems = parse(&flags).unwrap_err();
    let flags: Vec<&str> = problems
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(
        flags,
        [
            "--database-url",
            "--listen",
            "--concurrency",
            "--ingress-connections",
            "--trusted-proxies",
            "--log-format",
            "--log"
        ]
    );
    assert!(!problems.concat().contains("hidden"), "{problems:?}");
}

#[test]
fn the_password_is_not_shown_when_settings_are_printed() {
    let config = parse(&["--database-url", "postgres://worker:hidden@localhost/shop"]).unwrap();
    assert!(!format!("{config:?}").contains("hidden"));
}

#[test]
fn every_flag_has_an_environment_variable() {
    for argument in Args::command().get_arguments() {
        assert!(argument.get_env().is_some(), "{}", argument.get_id());
    }
}
