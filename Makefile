.DEFAULT_GOAL := help
.PHONY: help setup build check test test-unit test-postgres test-e2e test-fuzz demo bench clean

help: ## list these commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: ## install what is missing (packages, cargo-pgrx, private PostgreSQL 15 and 18)
	@scripts/setup

build: setup ## build the worker, and the extension for PostgreSQL 18, in release mode
	@scripts/build

check: setup ## formatting, lints, rules for SQL files
	@scripts/check

test: setup ## everything: check, unit, property, in-Postgres and end-to-end tests, and some fuzzing
	@scripts/test check unit postgres e2e fuzz

test-unit: setup ## unit and property tests
	@scripts/test unit

test-postgres: setup ## tests inside PostgreSQL 15 and 18
	@scripts/test postgres

test-e2e: setup ## end-to-end tests against both servers and a release worker
	@scripts/test e2e

test-fuzz: setup ## fuzz what reads hostile input, 15 s for each target
	@scripts/test fuzz

demo: build ## real customers, real purchases, signed requests; ONCE=1 ends by itself
	@demo/run

bench: setup ## benchmarks against graphile-worker and pg-boss
	@bench/run

clean: ## remove target/ and .dev/, the demo's data included
	rm -rf target .dev
