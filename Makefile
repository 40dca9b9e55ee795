# The everyday commands. What they do is in tests/lab/ (machines, tools, order of the tests) and tests/gates.py.

LAB := python3 tests/lab/lab.py
SUITE := python3 tests/lab/suite.py
export DISTRO KEEP

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo:  ## a real web2py site over HTTPS in a container of this machine
	@python3 tests/lab/demo.py start

.PHONY: demo-stop
demo-stop:  ## remove the demo
	@python3 tests/lab/demo.py stop

.PHONY: test
test:  ## everything CI runs
	@$(SUITE)

.PHONY: test-all
test-all:  ## test, long scenarios on the other distribution, each scenario with the other web2py tree, and the demo
	@$(SUITE) --all

.PHONY: scenario
scenario:  ## one scenario: NAME=... (DISTRO=debian12|debian13 narrows it, KEEP=1 leaves its machines up)
	@$(SUITE) --scenario '$(NAME)'

.PHONY: lint sanity units newest runtime build
lint:  ## style of YAML, Ansible content and Python
sanity:  ## ansible-test sanity
units:  ## unit tests, and the contract of the web2py used in tests
newest:  ## unit tests and syntax with the newest ansible-core
runtime:  ## the runtime package under a real web2py
build:  ## build the archive and install it into an empty place
lint sanity units newest runtime build:
	@$(SUITE) $@

.PHONY: lab
lab:  ## tools, Docker, machine images and a web2py, ready for the tests
	@$(LAB) up

.PHONY: lab-down
lab-down:  ## remove the machines and the network of the tests
	@$(LAB) down
