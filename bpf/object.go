// SPDX-License-Identifier: Apache-2.0

package bpf

// Object is the object with all programs, as it is in this program's file. Nobody changes it.
func Object() []byte { return _ObjectBytes }
