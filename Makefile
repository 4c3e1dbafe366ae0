# make demo: depth and point clouds from a virtual room, SOURCE=0|video.mp4|folder for yours.
# make test: lint, types and tests.
# make bench: how fast the network and the nodes are here, three minutes. DATA=NYU: accuracy too.
#   PEERS=1: the architectures that others use, beside ours, instead.
# make soak: the long tests, an hour.
# make docs: these pages and the API reference as HTML, in docs/_build/html.
#
# VIEW=1: shows it in a browser too; with DURATION=600 there is time to look.
# ANCHORS=scan: depth corrected by the room's lidar, beside what the network alone gives; or by its
#   depth camera that has holes (depth), or by the camera's own motion (motion).
# FOV=DEGREES: the horizontal field of view of your camera.
# TORCH_INDEX: where pip takes torch from, which the tests and WEIGHTS other than lite-nyu need.
#   PyPI's x86-64 build is made for CUDA and takes 5 GB;
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu takes 0.7 GB.

PYTHON ?= python3
VENV ?= .venv
SOURCE ?= room
DURATION ?= 20
OUT ?= demo_out
WEIGHTS ?= lite-nyu
DATA ?=
TORCH_INDEX ?=
# files of our own networks; other WEIGHTS need what runs others
OURS := %.safetensors %.model %.pth %.pt

# With a ROS 2 sourced, use its rclpy and messages; without, the wheels on PyPI.
ifeq ($(ROS_DISTRO),)
VENV_OPTIONS :=
EXTRA_ROS := ros,
else
VENV_OPTIONS := --system-site-packages
EXTRA_ROS :=
endif

PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# Where ROS packages are sourced, their pytest plugins would load too.
RUN := PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(VENV)/bin/python
# As they were given, through the environment: a name may hold what make and the shell would read.
export AS_SOURCE = $(value SOURCE)
export AS_WEIGHTS = $(value WEIGHTS)
export AS_OUT = $(value OUT)
export AS_DATA = $(value DATA)
export AS_FOV = $(value FOV)
export AS_ANCHORS = $(value ANCHORS)
export AS_DURATION = $(value DURATION)

.PHONY: demo test lint bench soak docs clean

demo: $(VENV)/demo.installed $(if $(VIEW),$(VENV)/viewer.installed) \
		$(if $(filter-out lite-nyu,$(WEIGHTS)),$(VENV)/torch.installed) \
		$(if $(filter-out lite-nyu paper-nyu $(OURS),$(WEIGHTS)),$(VENV)/models.installed)
	@$(RUN) -m hybrid_depth_ros.demo --source="$$AS_SOURCE" --weights="$$AS_WEIGHTS" \
	  $(if $(FOV),--horizontal-fov="$$AS_FOV") $(if $(VIEW),--view) \
	  $(if $(ANCHORS),--anchors="$$AS_ANCHORS") --seconds="$$AS_DURATION" --out="$$AS_OUT"

test: lint
	@$(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/test.installed
	@$(RUN) -m hybrid_depth_ros.benchmark $(if $(filter-out lite-nyu,$(WEIGHTS)),--weights "$$AS_WEIGHTS") \
	  $(if $(DATA),--data="$$AS_DATA") $(if $(PEERS),--peers)

soak: $(VENV)/test.installed
	@$(RUN) -m pytest -m slow
	@for script in hostile faults training robot soak; do \
	  echo "test/soak/$$script.py"; $(RUN) test/soak/$$script.py || exit 1; done

docs: $(VENV)/docs.installed
	@$(RUN) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: $(VENV)/test.installed
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV) || { rm -rf $(VENV); \
	  echo "make: $(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }

$(VENV)/demo.installed: setup.py $(VENV)/bin/python
	@echo "Installing what the demo needs into $(VENV)"
	@$(PIP) --editable ".[$(EXTRA_ROS)demo,openvino]"
	@touch $@

$(VENV)/torch.installed: setup.py $(VENV)/demo.installed
	@echo "Installing torch (5 GB from PyPI; the CPU build is smaller, see TORCH_INDEX in Makefile)"
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch torchvision
	@$(PIP) --editable ".[torch]"
	@touch $@

$(VENV)/models.installed: setup.py $(VENV)/torch.installed
	@$(PIP) --editable ".[$(EXTRA_ROS)demo,openvino,onnxruntime,transformers]"
	@touch $@

$(VENV)/viewer.installed: setup.py $(VENV)/demo.installed
	@$(PIP) --editable ".[$(EXTRA_ROS)demo,viewer]"
	@touch $@

$(VENV)/test.installed: setup.py $(VENV)/torch.installed
	@echo "Installing what the tests need into $(VENV)"
	@$(PIP) --editable ".[$(EXTRA_ROS)demo,train,test]"
	@touch $@

$(VENV)/docs.installed: setup.py $(VENV)/bin/python
	@$(PIP) --editable ".[docs]"
	@touch $@

clean:
	rm -rf "$(VENV)" "$$AS_OUT" docs/_build build install log *.egg-info
