// SPDX-License-Identifier: Apache-2.0

package main

// arch is a kind of machine that QEMU emulates. Its name is Go's and Debian's.
type arch struct {
	name    string
	qemu    string   // the program
	pkg     string   // of Debian, that has it
	args    []string // the machine
	console string   // the kernel's name of the first serial port
	loader  string   // where dynamically linked programs look for the loader of their libraries
}

func archs() []arch {
	return []arch{
		{
			name: "amd64", qemu: "qemu-system-x86_64", pkg: "qemu-system-x86",
			args: []string{"-cpu", "max"}, console: "ttyS0", loader: "lib64/ld-linux-x86-64.so.2",
		},
		{
			name: "arm64", qemu: "qemu-system-aarch64", pkg: "qemu-system-arm",
			// The architecture's own pointer authentication takes most of an emulated machine's time; QEMU has a cheap one.
			args: []string{"-machine", "virt", "-cpu", "max,pauth-impdef=on"}, console: "ttyAMA0", loader: "lib/ld-linux-aarch64.so.1",
		},
	}
}

func archNamed(name string) (arch, bool) {
	for _, a := range archs() {
		if a.name == name {
			return a, true
		}
	}
	return arch{}, false
}
