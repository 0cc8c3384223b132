// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sheetbend/sheetbend/collector/span"
)

// version is set by the linker in releases (-X main.version=v1.2.3).
var version string

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, _ := debug.ReadBuildInfo()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "sheetbend %s\nspan contract %s\n%s\n",
				describe(version, info), span.Contract, goVersion(info))
			return err
		},
	}
}

// build is the version of this binary, also told as that of the instrumentation scope.
func build() string {
	info, _ := debug.ReadBuildInfo()
	return describe(version, info)
}

// describe takes the linker's version, else the module's, else the commit.
func describe(linked string, info *debug.BuildInfo) string {
	if linked != "" {
		return linked
	}
	if info == nil {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit == "" {
		return "devel"
	}
	return "devel-" + commit + dirty
}

func goVersion(info *debug.BuildInfo) string {
	if info == nil {
		return "unknown Go"
	}
	return info.GoVersion
}
