// SPDX-License-Identifier: Apache-2.0

package workload

var oldCalls = map[string]uintptr{}
