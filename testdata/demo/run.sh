#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the scripted agent under `sheetbend run`, from the top of the repository. Further arguments are flags of that;
# SUDO is put before it.
set -eu

sh testdata/demo/setup.sh bin/demo
top=$PWD
cd bin/demo/home/shop
exec ${SUDO-} "$top/bin/sheetbend" run --config "$top/testdata/demo/agent.yaml" "$@" -- \
	../../scripted-agent "$top/testdata/demo/agent.sh"
