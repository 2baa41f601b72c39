# Thin entry points: each target is a command that can be typed by itself.

CARGO ?= cargo
RELEASE := target/release

.PHONY: help build demo lab test soak bench bench-loss bench-attack bench-pod fuzz image deploy undeploy kustomize clean \
	tools-lab tools-test tools-bench tools-soak tools-image

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

build: ## the appliance and the lab, optimised
	$(CARGO) build --release --locked -p tagwire -p tagwire-lab

demo: tools-lab build ## the appliance in a lab of namespaces: ping, curl, a download; then cleans up
	$(RELEASE)/tagwire-lab demo --binary $(RELEASE)/tagwire

lab: tools-lab build ## the same, and stays up until Ctrl-C, with commands to try
	$(RELEASE)/tagwire-lab demo --binary $(RELEASE)/tagwire --stay

test: tools-test ## formatting, lints, unit, property, simulation and end-to-end tests
	deploy/test

soak: tools-lab tools-soak ## an hour (SOAK_SECONDS) of mixed traffic, each octet checked
	$(CARGO) build --release --locked -p tagwire -p tagwire-benches
	$(RELEASE)/tagwire-soak --binary $(RELEASE)/tagwire

bench: tools-lab tools-bench ## Tagwire beside nginx and beside the limit; writes bench-results/
	$(CARGO) build --release --locked -p tagwire -p tagwire-lab -p tagwire-benches
	$(RELEASE)/tagwire-bench --binary $(RELEASE)/tagwire --reflector $(RELEASE)/reflector

bench-loss: tools-lab tools-bench ## goodput on bad lines beside the kernel's TCP; writes bench-results/
	$(CARGO) build --release --locked -p tagwire -p tagwire-benches
	$(RELEASE)/tagwire-bench-loss --binary $(RELEASE)/tagwire

bench-attack: tools-lab tools-bench ## a client under floods and injection, beside nginx; writes bench-results/
	$(CARGO) build --release --locked -p tagwire -p tagwire-benches
	$(RELEASE)/tagwire-bench-attack --binary $(RELEASE)/tagwire

bench-pod: tools-image ## image, start and memory of a pod by podman, with each driver
	$(CARGO) bench --profile dev --locked -p tagwire-deploy --bench pod # the image is optimised, whatever this is

fuzz: ## every fuzz target for FUZZ_SECONDS (60) each
	fuzz/run

image: tools-image ## the container image, from the local toolchain: localhost/tagwire and target/image/tagwire.tar
	deploy/image

# Their values come by the command line or the environment and go on as they were typed: make expands nothing in them.
DEPLOYMENT := MACVLAN_MASTER VLAN_ID IP_ADDRESS IP_ADDRESSES REPLICAS GATEWAY CONTAINER_IMAGE NAMESPACE OVERLAY \
	COMPONENTS WWW_IMAGE SECCOMP_PROFILE
define literal
deploy undeploy kustomize: override export $(1) := $$(value $(1))
endef
$(foreach variable,$(DEPLOYMENT),$(eval $(call literal,$(variable))))

deploy: ## onto a cluster: MACVLAN_MASTER=eno1 VLAN_ID=123 IP_ADDRESS=192.168.123.150/24, see deploy/README.md
	@deploy/manifests apply

undeploy: ## off it again: NAMESPACE= and OVERLAY= as they were
	@deploy/manifests delete

kustomize: ## print every manifest that deploy would apply, with the same variables
	@deploy/manifests render

clean: ## remove what was built, and labs whose owners are gone
	-$(RELEASE)/tagwire-lab clean
	$(CARGO) clean

tools-lab:
	@deploy/tools lab

tools-test:
	@deploy/tools test

tools-bench:
	@deploy/tools bench

tools-soak:
	@deploy/tools soak

tools-image:
	@deploy/tools image
