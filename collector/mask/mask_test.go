// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"slices"
	"strings"
	"testing"
)

func TestMasking(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string // nil: nothing is masked
	}{
		{"an option with its value", []string{"x", "--password", "p", "q"}, []string{"x", "--password", "****", "q"}},
		{"an option with =", []string{"--api-key=k"}, []string{"--api-key=****"}},
		{"an option that is followed by another one", []string{"--token", "--verbose"}, nil},
		{"a variable", []string{"env", "GH_TOKEN=abc", "A=b"}, []string{"env", "GH_TOKEN=****", "A=b"}},
		{"within a shell command", []string{"sh", "-c", "DB_PASS='a b' run --x; echo done"}, []string{"sh", "-c", "DB_PASS='****' run --x; echo done"}},
		{"within JSON", []string{`{"user":"u","password": "p,q","n":1}`}, []string{`{"user":"u","password": "****","n":1}`}},
		{"within a query", []string{"http://h/?a=b&access_token=t&c=d"}, []string{"http://h/?a=b&access_token=****&c=d"}},
		{"an authorization header", []string{"-H", "Authorization: Bearer abcdef"}, []string{"-H", "Authorization: Bearer ****"}},
		{"another scheme", []string{"-H", "authorization: Basic dTpw"}, []string{"-H", "authorization: Basic ****"}},
		{"a key header", []string{"-H", "X-Api-Key: abc"}, []string{"-H", "X-Api-Key: ****"}},
		{"a bearer token elsewhere", []string{"bearer abcdefgh1234"}, []string{"bearer ****"}},
		{"the password of a URL", []string{"git", "clone", "https://user:pw@host/x"}, []string{"git", "clone", "https://user:****@host/x"}},
		{"a URL without a password", []string{"ssh://git@host:22/x", "https://host/a:b@c"}, nil},
		{"user and password", []string{"curl", "-u", "me:pw"}, []string{"curl", "-u", "me:****"}},
		{"user and password after other short options", []string{"curl", "-sSu", "me:pw"}, []string{"curl", "-sSu", "me:****"}},
		{"and joined to them", []string{"curl", "-suhim:pw"}, []string{"curl", "-suhim:****"}},
		{"an option with a value is no user", []string{"curl", "-ou", "http://x"}, nil},
		{"a script in a script", []string{"bash", "-c", `bash -c "true --api-key pw" && x`}, []string{"bash", "-c", `bash -c "true --api-key ****" && x`}},
		{"twice", []string{"bash", "-c", `bash -c "bash -c \"true --api-key pw\""`}, []string{"bash", "-c", `bash -c "bash -c \"true --api-key ****\""`}},
		{"a quoted value with spaces", []string{"bash", "-c", `x --password "a \" b" y`}, []string{"bash", "-c", `x --password "****" y`}},
		{"numbers of a user and group", []string{"docker", "run", "-u", "1000:1000"}, nil},
		{"tokens of known shapes", []string{"AKIAIOSFODNN7EXAMPLE", "x ghp_0123456789abcdef0123", "sk-ant-0123456789abcdef"}, []string{"****", "x ****", "****"}},
		{"shapes too short or within words", []string{"sk-short", "task-0123456789abcdef0123", "risk-0123456789abcdef0123"}, nil},
		{"what only looks similar", []string{"--password-file=/x", "bypass=1", "compass: north", "tokenize", "PWD=/home", "keyboard=us", "a=b", "x:y", "author: me"}, nil},
		{"user and password within a shell command", []string{"bash", "-c", "cd x && curl -s -u admin:pw 'http://h'; id"}, []string{"bash", "-c", "cd x && curl -s -u admin:**** 'http://h'; id"}},
		{"an option within a shell command", []string{"bash", "-lc", "x --pwd 'a b' --token \"t u\"\ny --token"}, []string{"bash", "-lc", "x --pwd '****' --token \"****\"\ny --token"}},
		{"passwords that only their program tells", []string{"bash", "-c", "sudo sshpass -p pw ssh -p 22 h | FOO=1 mysql -ppw db; tar -pxf y"}, []string{"bash", "-c", "sudo sshpass -p **** ssh -p 22 h | FOO=1 mysql -p**** db; tar -pxf y"}},
		{"the same without a shell", []string{"/usr/bin/sshpass", "-p", "pw", "ssh"}, []string{"/usr/bin/sshpass", "-p", "****", "ssh"}},
		{"cookies", []string{"curl", "-H", "Cookie: sid=a1b2c3; theme=dark", "http://h"}, []string{"curl", "-H", "Cookie: sid=****; theme=dark", "http://h"}},
		{"options of another command", []string{"sh", "-c", "ssh -p 22 h; x -u a:b; docker run -u 1000:1000 x"}, []string{"sh", "-c", "ssh -p 22 h; x -u a:****; docker run -u 1000:1000 x"}},
		{"a method is no secret", []string{"x", "--auth", "none", "--auth=basic", "--token", "$TOKEN", "--password-file", "/x", "--pass", "<pass>"}, nil},
		{"a unit is no user", []string{"journalctl", "-u", "sshd:foo"}, nil},
		{"a script after a variable", []string{"bash", "-c", "cookie=1; rm -rf /tmp/x; ls"}, nil},
		{"a word that only begins like an option", []string{"mysqldump", "-port", "3306"}, nil},
		{"signs of URLs in a URL's password", []string{"https://user:p@s/w#d@db.example.com:5432/x"}, []string{"https://user:****@db.example.com:5432/x"}},
		{"a data source name", []string{"app:p@w@tcp(db:3306)/x"}, []string{"app:****@tcp(db:3306)/x"}},
		{"a signed URL", []string{"https://h/x?X-Amz-Expires=60&X-Amz-Signature=0a1b2c3d4e5f60718293a4b5c6d7e8f9"}, []string{"https://h/x?X-Amz-Expires=60&X-Amz-Signature=****"}},
		{"a webhook", []string{"https://hooks.slack.com/services/T0/B0/abc"}, []string{"https://hooks.slack.com/services/****"}},
		{"credentials in code", []string{"python3", "-c", `get(u, auth=("user", "pw")); c.setPassword("a b"); os.environ["API_KEY"] = "k1"`}, []string{"python3", "-c", `get(u, auth=("user", "****")); c.setPassword("****"); os.environ["API_KEY"] = "****"`}},
		{"other code", []string{"python3", "-c", `token = os.environ["TOKEN"]; pw = getpass("Password: "); self.token = self.next_token(); f(password=args.password)`}, nil},
		{"a private key", []string{"-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----"}, []string{"-----BEGIN PRIVATE KEY-----\n****\n-----END PRIVATE KEY-----"}},
		{"a certificate", []string{"-----BEGIN CERTIFICATE-----\nMIIabc\n-----END CERTIFICATE-----"}, nil},
		{"what is set by its name", []string{"aws", "configure", "set", "aws_secret_access_key", "abc"}, []string{"aws", "configure", "set", "aws_secret_access_key", "****"}},
		{"what a program reads", []string{"bash", "-c", "echo pw | sudo -S id; echo 'bob:pw' | sudo chpasswd"}, []string{"bash", "-c", "echo **** | sudo -S id; echo 'bob:****' | sudo chpasswd"}},
		{"a connection string", []string{"Server=h;User Id=sa;Password=p;Encrypt=true"}, []string{"Server=h;User Id=sa;Password=****;Encrypt=true"}},
		{"a tool that is not known", []string{"x", "-u", "bob", "-p", "pw", "-P", "8080"}, []string{"x", "-u", "bob", "-p", "****", "-P", "8080"}},
		{"an end of camel case", []string{"authToken=x", "dbPass=x"}, []string{"authToken=****", "dbPass=****"}},
		{"a quoted value of a connection string", []string{"Server=h;Pwd={a;b};X=1", "Server=h;Password='a'';b';X=1"}, []string{"Server=h;Pwd={****};X=1", "Server=h;Password='****';X=1"}},
		{"literals that code joins", []string{"node", "-e", "h({Authorization: 'Bearer ' + 'abc-123-def', password: 'a' + 'b'})"}, []string{"node", "-e", "h({Authorization: 'Bearer ' + '****', password: '****' + '****'})"}},
		{"a header that code joins", []string{"node", "-e", "h({Authorization: 'Bearer abc-1' + '-def', Cookie: 'sid=' + 'x1'})"}, []string{"node", "-e", "h({Authorization: 'Bearer ****' + '****', Cookie: 'sid=' + '****'})"}},
		{"an option of a library", []string{"php", "-r", "curl_setopt($c, CURLOPT_USERPWD, 'u:pw');"}, []string{"php", "-r", "curl_setopt($c, CURLOPT_USERPWD, 'u:****');"}},
		{"a manifest of a Secret", []string{"bash", "-c", "kubectl apply -f - <<E\nkind: Secret\nstringData:\n  license: a b\n  cert: |\n    c\ntype: Opaque\nE"}, []string{"bash", "-c", "kubectl apply -f - <<E\nkind: Secret\nstringData:\n  license: ****\n  cert: |\n    ****\ntype: Opaque\nE"}},
		{"a known shape in what is looked for", []string{"grep", "-e", "ghp_0123456789abcdef0123", "x"}, []string{"grep", "-e", "****", "x"}},
		{"a parameter that is a secret by its type", []string{"aws", "ssm", "put-parameter", "--type", "SecureString", "--value", "a b"}, []string{"aws", "ssm", "put-parameter", "--type", "SecureString", "--value", "****"}},
		{"types and identifiers", []string{"bash", "-c", "cat >a <<E\napiKey: string; password: Option<String>; password = username\nE"}, nil},
		{"labels", []string{"bash", "-c", "cat >a <<E\n{\"password\": \"Password\", \"token\": \"Access token\"}\nE"}, nil},
		{"texts for people", []string{"git", "commit", "-m", "Authorization: bearer tokens are optional; --password and --token flags"}, nil},
		{"usage", []string{"echo", "x --token TOKEN --password PASSWORD [--api-key KEY]"}, nil},
		{"names of tests, images and keys", []string{"x", "TestA/password=empty", "token=packages.example.com/a/token:2.0.1", "session:token:count"}, nil},
		{"a variable that is emptied", []string{"bash", "-c", "GH_TOKEN= gh pr list"}, nil},
		{"a secret that begins like an option", []string{"doctl", "-t", "--Ab3dEf6hIj9kLm2n"}, []string{"doctl", "-t", "****"}},
		{"a target of a script", []string{"GetX.py", "corp.local/bob:pw1"}, []string{"GetX.py", "corp.local/bob:****"}},
		{"a private key in base64", []string{"x", "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCk1IY0NBUUVFSWFiY2RlZgo="}, []string{"x", "****"}},
		{"a private key with another header in base64", []string{"x", "LS0tLS1CRUdJTiBBTlkgT1RIRVIgUFJJVkFURSBLRVktLS0tLQpNSGNDQVFFRUlhYmNkZWZnaAo="}, []string{"x", "****"}},
		{"a certificate in base64", []string{"x", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1IY0NBUUVFSWFiY2RlZmdoCg=="}, nil},
		{"a target without a domain", []string{"GetX.py", "/bob:pw1@dc01"}, []string{"GetX.py", "/bob:****@dc01"}},
		{"a secret behind a word that is a method elsewhere", []string{"systemd-run", "-p", "SetCredential=token:sdT0k3n", "x"}, []string{"systemd-run", "-p", "SetCredential=****", "x"}},
		{"an option of a tool that looks for words", []string{"trufflehog", "-p", "password=pw1"}, []string{"trufflehog", "-p", "password=****"}},
		{"a pair that code joins", []string{"node", "-e", "h('Basic bob:s3cr3t' + 'pw')"}, []string{"node", "-e", "h('Basic bob:****' + '****')"}},
		{"what follows an option that asks", []string{"bash", "-c", "x --ask-vault-pass 'w0nder#land'"}, nil},
		{"a cookie's options in code", []string{"node", "-e", "session({cookie: {secure:true, maxAge:60000}})"}, nil},
		{"an option in the other tools' way", []string{"unar", "-ppw", "x.rar"}, []string{"unar", "-p****", "x.rar"}},
		{"a short code in a query", []string{"https://h/cb?code=abc123def456ghi7"}, []string{"https://h/cb?code=****"}},
		{"an empty value", []string{"--password=", "x"}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := slices.Clone(c.args)
			hidden, _ := Args(got)
			want := c.want
			if want == nil {
				want = c.args
			}
			if !slices.Equal(got, want) || hidden != (c.want != nil) {
				t.Errorf("%q, %v", got, hidden)
			}
		})
	}
}

var hostile = []string{"=", "h=", "apixkey=", "s ss ", "eyJ.", "://a:", "bearer ", "SG.", "pass='pass=\"", "auth(\"", "chpasswd <<a\n", "://a/hook/",
	"LS0tLS1CRUdJTi/", "send password expect ", "-p x;", "\"a'", "login a password b ", "echo a|", "<a><password>",
	"pw={", "pw='a'+", "kind: Secret\ndata:\n a: b\n"}

func TestNoArgumentTakesMoreThanItsShare(t *testing.T) {
	for _, part := range hostile {
		var m masker
		m.begin(strings.Repeat(part, maxSearched/len(part)))
		share := m.work
		m.text()
		m.script(0, m.end, 0, true)
		if over := -m.work; over > share/8 {
			t.Errorf("%q: %d bytes looked at, %d over", part, share, over)
		}
	}
}

func BenchmarkHostileCommand(b *testing.B) {
	option := "-" + strings.Repeat("a", maxSearched-1)
	for name, args := range map[string][]string{
		"long options of words": append([]string{"find"}, slices.Repeat([]string{option}, 64)...),
		"empty last words":      {"bash", "-c", "redis-cli auth " + strings.Repeat(`"" `, maxSearched/4)},
		"many files for a text": {"bash", "-c", "echo '" + strings.Repeat("s3cr3t1 ", 4000) + "' " + strings.Repeat(">a.token ", 3000)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Args(slices.Clone(args))
			}
		})
	}
}

func FuzzMask(f *testing.F) {
	f.Add("Authorization: Bearer x", "--token")
	f.Add("://a:b@", "a=b")
	f.Add("\"password\" : \"", "-u")
	f.Add("echo a:b | sudo chpasswd <<E\nc:d\nE", "auth=('a', 'b')")
	f.Add("<add key=\"password\" value=\"x\"/>", "-----BEGIN PRIVATE KEY-----x")
	f.Fuzz(func(t *testing.T, a, b string) {
		before := []string{a, b, "bash", "-c", a, "curl", b}
		after := slices.Clone(before)
		hidden, cut := Args(after)
		if !hidden && !cut && !slices.Equal(before, after) {
			t.Errorf("%q became %q, and nothing was said", before, after)
		}
	})
}

func TestLongArgumentsAreSearchedAndShownUpToABound(t *testing.T) {
	fill := func(n int) string { return strings.Repeat("=", n) }
	for _, c := range []struct {
		name   string
		arg    string
		want   string
		hidden bool
		cut    bool
	}{
		{"one of the bound's length is whole", fill(maxSearched), fill(maxSearched), false, false},
		{"what comes after the bound is not shown", fill(maxSearched) + " --password=x", fill(maxSearched), false, true},
		{"a value that begins beyond the bound is not shown", fill(maxSearched-9) + " password=secret", fill(maxSearched-9) + " password", false, true},
		{"a value across the bound is masked", fill(maxSearched-12) + " password=" + "secret", fill(maxSearched-12) + " password=****", true, true},
		{"a URL's password across the bound is masked", fill(maxSearched-8) + "://a:secret@host", fill(maxSearched-8) + "://a:****", true, true},
		{"a token across the bound is masked", fill(maxSearched-6) + "ghp_0123456789abcdef0123", fill(maxSearched-6) + "****", true, true},
		{"a character is not cut through", fill(maxSearched-1) + "é", fill(maxSearched - 1), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{c.arg}
			hidden, cut := Args(args)
			if args[0] != c.want || hidden != c.hidden || cut != c.cut {
				t.Errorf("…%q, %v, %v", args[0][max(0, len(args[0])-40):], hidden, cut)
			}
		})
	}
}

// What agents run: the ratio of the two says what masking costs at an exec.
func BenchmarkArguments(b *testing.B) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"git", []string{"git", "status", "--porcelain", "-z"}},
		{"cc", strings.Fields("cc -DHAVE_CONFIG_H -I. -I../include -Wall -O2 -g -MT x.o -MD -MP -MF .deps/x.Tpo -c -o x.o ../src/x.c")},
		{"script", []string{"bash", "-lc", "cd /repo && export CI=1; TOKEN=$(cat /run/t) npm install --no-audit && curl -sS -H 'Accept: application/json' https://api.example.com/v1/items?page=1 | jq -r '.items[] | .name' > out.txt"}},
		{"secret", []string{"curl", "-sS", "-u", "bob:s3cr3t", "-H", "Authorization: Bearer 0123456789abcdef", "https://bob:pw@h/x?token=abc"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			args := make([]string, len(c.args))
			for b.Loop() {
				copy(args, c.args)
				Args(args)
			}
		})
	}
}

func BenchmarkHostileArgument(b *testing.B) {
	for _, part := range hostile {
		arg := strings.Repeat(part, 128<<10/len(part))
		b.Run(part, func(b *testing.B) {
			for b.Loop() {
				Args([]string{arg})
			}
		})
	}
}
