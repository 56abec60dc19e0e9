# Everything that is more than one line is Rust (xtask) or scripts/setup.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run test check fmt fuzz services services-stop services-reset

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{ printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Builds the release binary and serves on 127.0.0.1:8080, data in ./data
	@scripts/setup build && exec cargo run --locked --release --package tertulia -- serve --listen 127.0.0.1:8080 --data ./data

test: ## Runs every check and every test
	@scripts/setup test && exec cargo --locked xtask test

check: ## Runs the quick checks only: format, own lints, clippy
	@scripts/setup build && exec cargo xtask check

fmt: ## Formats the code
	@scripts/setup build && exec cargo fmt --all

fuzz: ## Fuzzes every parser, ten minutes in all
	@scripts/setup fuzz && exec cargo xtask fuzz

services: ## Starts PostgreSQL, Redis and Kafka for single tests and for development
	@scripts/setup test && exec cargo xtask services

services-stop: ## Stops them; what they have stored stays
	@exec cargo xtask services stop

services-reset: ## Stops them and removes what they have stored
	@exec cargo xtask services reset
