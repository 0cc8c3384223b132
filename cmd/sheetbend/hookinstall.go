// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

// versionWithin is how long an agent may take to print its version.
const versionWithin = 10 * time.Second

// maxVersion bounds what is read of that, in bytes.
const maxVersion = 64 << 10

func newHookInstall() *cobra.Command {
	return newHookChange("install", "Write the hook into an agent's configuration",
		func(p *hook.Place, by identity, program string, text []byte) ([]byte, []string, error) {
			version := agentVersion(p, by)
			var then []string
			if since := p.Lacks(version); since != "" {
				then = append(then, fmt.Sprintf("the end of failed and denied calls is reported by %s %s and later: "+
					"after an update, install again", p.Program, since))
			}
			text, err := p.Install(text, program, version)
			return text, append(then, p.After), err
		})
}

func newHookUninstall() *cobra.Command {
	return newHookChange("uninstall", "Take the hook out of an agent's configuration",
		func(p *hook.Place, _ identity, program string, text []byte) ([]byte, []string, error) {
			text, err := p.Uninstall(text, program)
			return text, nil, err
		})
}

// A settingsChange gives the new text, and lines for the user once it is written. program is the path of sheetbend.
type settingsChange func(p *hook.Place, by identity, program string, text []byte) ([]byte, []string, error)

func newHookChange(use, short string, change settingsChange) *cobra.Command {
	var yes bool
	var file string
	var known, files, examples []string
	for _, p := range hook.Places() {
		known = append(known, p.Agent)
		files = append(files, filepath.Join("~", p.Dir, p.File))
		examples = append(examples, "  sheetbend hook "+use+" "+p.Agent)
	}
	cmd := &cobra.Command{
		Use:   use + " " + strings.Join(known, "|"),
		Short: short,
		Long: short + ": " + strings.Join(files, " or ") + `. The change is
shown and asked for first. Everything else in the file stays as it is, and a second time changes nothing.`,
		Example:   strings.Join(examples, "\n") + " --yes",
		ValidArgs: known,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || hook.FindPlace(args[0]) == nil {
				return &exitError{exitUsage, fmt.Errorf("one agent is needed: %s", strings.Join(known, " or "))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			by, err := caller()
			if err != nil {
				return &exitError{exitUsage, err}
			}
			p := hook.FindPlace(args[0])
			if file == "" {
				if file, err = settingsFile(p, by, os.Getenv); err != nil {
					return err
				}
			}
			return changeSettings(cmd, p, by, file, yes, change)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.StringVar(&file, "file", "", "change `FILE`, for example of one project, instead of the user's")
	return cmd
}

// settingsFile is the user's configuration file of an agent.
func settingsFile(p *hook.Place, by identity, getenv func(string) string) (string, error) {
	dir := getenv(p.Env)
	if dir == "" {
		home, err := by.home, error(nil)
		if !by.other() {
			home, err = os.UserHomeDir()
		}
		if err == nil && home == "" {
			err = fmt.Errorf("user %s has no home directory", by.name)
		}
		if err != nil {
			return "", fmt.Errorf("find the configuration of %s: %w: give it with --file", p.Agent, err)
		}
		dir = filepath.Join(home, p.Dir)
	}
	return filepath.Join(dir, p.File), nil
}

// changeSettings looks for, reads and changes the file with the rights of by.
func changeSettings(
	cmd *cobra.Command, p *hook.Place, by identity, file string, yes bool, change settingsChange,
) error {
	var settings *agentFile
	var old []byte
	err := by.rights(func() (err error) {
		// Dotfiles are often links into a repository: what they point to is changed.
		if settings, err = findAgentFile(file, uint32(os.Geteuid())); err == nil {
			old, err = settings.read()
		}
		return err
	})
	if err != nil {
		if by.other() {
			err = fmt.Errorf("as user %s, who called sudo: %w%s", by.name, err, asRoot)
		}
		return err
	}
	file = settings.path
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of sheetbend: %w", err)
	}
	text, then, err := change(p, by, program, old)
	if err != nil {
		return fmt.Errorf("%s is not changed: %w", file, err)
	}
	if len(text) == 0 && settings.linked {
		text = []byte("{}\n") // a file that others point to stays
	}
	out := cmd.OutOrStdout()
	if bytes.Equal(old, text) {
		fmt.Fprintf(out, "nothing to do: %s is as it should be\n", file)
		return nil
	}
	fmt.Fprintf(out, "%s:\n%s", file, diff(string(old), string(text)))
	if !yes {
		ok, err := ask(cmd.InOrStdin(), out)
		if err != nil || !ok {
			return err
		}
	}
	err = by.rights(func() error {
		if len(text) == 0 {
			return settings.remove()
		}
		return settings.write(text)
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "done")
	for _, line := range then {
		fmt.Fprintln(out, line)
	}
	return nil
}

// agentVersion asks the agent, as the user; "" if it is not there.
func agentVersion(p *hook.Place, by identity) string {
	program, err := lookCommand(p.Program, by)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Env = by.environment(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: by.credential, Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil || start(cmd, by) != nil {
		return ""
	}
	text, readErr := io.ReadAll(io.LimitReader(out, maxVersion))
	if cmd.Wait() != nil || readErr != nil {
		return ""
	}
	return hook.Version(string(text))
}

// ask reports whether the user answered yes. No answer is no.
func ask(in io.Reader, out io.Writer) (bool, error) {
	if f, ok := in.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return false, &exitError{exitUsage, errors.New("not changed: there is nobody to ask; --yes changes it without")}
	}
	fmt.Fprint(out, "Change it? [y/N] ")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(out, "not changed")
	return false, nil
}

// diff shows the lines that come and go.
func diff(old, text string) string {
	var out strings.Builder
	for _, e := range udiff.Lines(old, text) {
		out.WriteString(signed("- ", old[e.Start:e.End]))
		out.WriteString(signed("+ ", e.New))
	}
	return out.String()
}

func signed(sign, lines string) string {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		fmt.Fprintf(&out, "%s%s\n", sign, printable(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    ")))
	}
	return out.String()
}
