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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

// versionWithin is how long an agent may take to print its version, wherever it is looked for.
const versionWithin = 10 * time.Second

// maxVersion bounds what is read of that, in bytes.
const maxVersion = 64 << 10

func newHookInstall() *cobra.Command {
	var version string
	cmd := newHookChange("install", "Write the hook into an agent's configuration",
		func(p *hook.Place, by identity, program string, text []byte) (settingsText, error) {
			given := hook.Version(version)
			if version != "" && given == "" {
				return settingsText{}, usageError("--agent-version %s: it is no version such as 2.1.197", version)
			}
			version, note := versionOf(p, by, given)
			text, err := p.Install(text, program, version)
			return settingsText{text, note, p.After}, err
		})
	cmd.Flags().StringVar(&version, "agent-version", "",
		"the agent's `VERSION`, where its program is not found, or another one is meant")
	return cmd
}

// versionOf gives the version of the agent that the hooks are for, and a line for the user: what is missing or was
// assumed.
func versionOf(p *hook.Place, by identity, given string) (version, note string) {
	since := p.Since()
	if since == "" {
		return given, "" // all versions know the same hooks
	}
	version, which := given, "this is to be"
	if given == "" {
		if version, which = agentVersion(p, by); version == "" {
			why := p.Program + " is neither in PATH nor where installers put it"
			if which != "" {
				why = which + " does not say its version"
			}
			return "", fmt.Sprintf("%s: taken for %s or later. An older one may run no hook at all with these settings: "+
				"then give its version with --agent-version", why, since)
		}
		which += " is"
	}
	if p.Lacks(version) != "" {
		note = fmt.Sprintf("the end of failed and denied calls is told by %s %s and later, and %s %s: "+
			"after an update, install again", p.Program, since, which, version)
	}
	return version, note
}

func newHookUninstall() *cobra.Command {
	return newHookChange("uninstall", "Take the hook out of an agent's configuration",
		func(p *hook.Place, _ identity, program string, text []byte) (settingsText, error) {
			text, err := p.Uninstall(text, program)
			return settingsText{text: text}, err
		})
}

// A settingsText is what a file is to be, with lines for the user: before he is asked, and once it is written.
type settingsText struct {
	text       []byte
	note, then string
}

// A settingsChange gives the new text. program is the path of sheetbend.
type settingsChange func(p *hook.Place, by identity, program string, text []byte) (settingsText, error)

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
	changed, err := change(p, by, program, old)
	if err != nil {
		return fmt.Errorf("%s is not changed: %w", file, err)
	}
	text := changed.text
	if len(text) == 0 && settings.linked {
		text = []byte("{}\n") // a file that others point to stays
	}
	out := cmd.OutOrStdout()
	if changed.note != "" {
		fmt.Fprintln(out, changed.note)
	}
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
		// The answer takes its time, and the agent writes this file as well.
		if err := unchanged(file, old); err != nil {
			return err
		}
		if len(text) == 0 {
			return settings.remove()
		}
		return settings.write(text)
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "done")
	if changed.then != "" {
		fmt.Fprintln(out, changed.then)
	}
	return nil
}

// unchanged says whether a file, whose path has no links in it, still has the text that was read from it.
func unchanged(file string, old []byte) error {
	f, err := findAgentFile(file, uint32(os.Geteuid()))
	if err != nil {
		return err
	}
	text, err := f.read()
	if err == nil && (f.path != file || !bytes.Equal(text, old)) {
		err = fmt.Errorf("%s has changed meanwhile: it is left alone; call this again", file)
	}
	return err
}

// installDirs are where installers of a user's own put programs, below his home directory: what PATH may lack, above all
// under sudo.
var installDirs = []string{
	".local/bin", ".claude/local", ".claude/local/node_modules/.bin", "bin", ".npm-global/bin", ".npm-packages/bin", "n/bin",
	".volta/bin", ".bun/bin", ".local/share/pnpm", ".yarn/bin", ".asdf/shims", ".local/share/mise/shims", ".nodenv/shims",
	".nvm/versions/node/*/bin", ".local/share/fnm/node-versions/*/installation/bin", ".fnm/node-versions/*/installation/bin",
}

// maxPrograms bounds the programs that are asked for their version.
const maxPrograms = 16

// agentVersion asks the agent, as the user, and says which program that is: "" if it is nowhere. Without a version none
// of the programs has given one.
func agentVersion(p *hook.Place, by identity) (version, program string) {
	var programs []string
	if inPath, err := lookCommand(p.Program, by); err == nil {
		programs = append(programs, inPath)
	}
	_ = by.rights(func() error {
		for _, program := range installed(p.Program, by) {
			if by.other() || os.Geteuid() != 0 || onlyRoots(program) {
				programs = append(programs, program)
			}
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), versionWithin)
	defer cancel()
	for _, program := range programs[:min(len(programs), maxPrograms)] {
		if version := versionOfProgram(ctx, program, by); version != "" {
			return version, program
		}
	}
	return "", strings.Join(programs[:min(len(programs), 1)], "")
}

// onlyRoots says whether nobody but root can have put a program where it is: what others may have put somewhere is not
// started as root. A directory that all may write to, but only take their own out of, does for what root has in it.
func onlyRoots(file string) bool {
	file = resolved(file)
	for {
		info, err := os.Lstat(file)
		if err != nil {
			return false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 || info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
			return false
		}
		dir := filepath.Dir(file)
		if dir == file {
			return true
		}
		file = dir
	}
}

// installed gives the programs of a name in the user's own places, newest version of node first.
func installed(name string, by identity) (programs []string) {
	home := by.home
	if !by.other() {
		home, _ = os.UserHomeDir()
	}
	if home == "" {
		return nil
	}
	dirs := []string{npmPrefix(home), "/home/linuxbrew/.linuxbrew/bin"}
	for _, pattern := range installDirs {
		found, _ := filepath.Glob(filepath.Join(home, pattern)) // a bad pattern, as a home directory may make one: none
		slices.Reverse(found)
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		if file, err := exec.LookPath(filepath.Join(dir, name)); dir != "" && err == nil {
			programs = append(programs, file)
		}
	}
	return programs
}

// npmPrefix is where npm puts global packages, if the user has said so; "" otherwise.
func npmPrefix(home string) string {
	text, err := readSettings(filepath.Join(home, ".npmrc"), 0, func(*syscall.Stat_t) bool { return true })
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, dir, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "prefix" {
			dir = strings.Trim(strings.TrimSpace(dir), `"`)
			for _, mark := range []string{"${HOME}", "$HOME", "~"} {
				if rest, ok := strings.CutPrefix(dir, mark); ok {
					dir = home + rest
				}
			}
			if filepath.IsAbs(dir) {
				return filepath.Join(dir, "bin")
			}
		}
	}
	return ""
}

// versionOfProgram asks a program, as the user; "" if it gives none.
func versionOfProgram(ctx context.Context, program string, by identity) string {
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Env = by.environment(os.Environ())
	// One that node runs is beside its node.
	cmd.Env = append(cmd.Env, "PATH="+strings.TrimSuffix(filepath.Dir(program)+":"+pathOf(cmd.Env), ":"))
	alone(cmd, by)
	out := &head{left: maxVersion}
	cmd.Stdout = out
	if start(cmd, by) != nil || cmd.Wait() != nil {
		return ""
	}
	return hook.Version(out.String())
}

// alone has a program run as the user and in a kernel session of its own, of which nothing is waited for once the
// program has ended or its context is over, and which ends with that.
func alone(cmd *exec.Cmd, by identity) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: by.credential, Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
}

// A head keeps the first bytes that are written to it.
type head struct {
	bytes.Buffer
	left int
}

func (h *head) Write(text []byte) (int, error) {
	kept := text[:min(len(text), h.left)]
	h.left -= len(kept)
	_, _ = h.Buffer.Write(kept)
	return len(text), nil
}

// pathOf is PATH of an environment.
func pathOf(env []string) (path string) {
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, "PATH="); ok {
			path = value
		}
	}
	return path
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
