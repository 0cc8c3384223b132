// SPDX-License-Identifier: Apache-2.0

package workload

import "maps"

// EvadePrefix is that of the scenarios which try not to be seen. Each stands in the table of tricks
// (bpf/evasion_test.go, docs/evasion.md).
const EvadePrefix = "evade-"

func evadeScenarios() map[string]func(*work) error {
	all := map[string]func(*work) error{}
	for _, some := range []map[string]func(*work) error{
		evadeOpenScenarios(), raceScenarios(), exchangeScenarios(), uringScenarios(), evadeExecScenarios(), evadeConnectScenarios(), evadeLeaveScenarios(), elsewhereScenarios(), floodScenarios(), evadeChangeScenarios(),
	} {
		maps.Copy(all, some)
	}
	return all
}

func evadeRoles() map[string]func(*work, []string) error {
	all := map[string]func(*work, []string) error{}
	for _, some := range []map[string]func(*work, []string) error{evadeOpenRoles(), exchangeRoles(), evadeExecRoles(), evadeConnectRoles(), evadeLeaveRoles(), elsewhereRoles()} {
		maps.Copy(all, some)
	}
	return all
}
