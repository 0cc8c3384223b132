// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"encoding/base64"
	"strings"
)

// shape is how a well-known credential looks: how it begins, how many more characters of tokens make one at least, and
// which others it has. Rules as gitleaks has them would say the same in regular expressions, which take hundreds of
// times as long: too long for every exec.
type shape struct {
	prefix string
	least  int
	also   string // bytes besides those of tokens
	strict bool   // words may begin like this, too: what follows must have digits or both cases
}

// shapes by their first byte.
var shapes = func() (table [256][]shape) {
	add := func(least int, also string, strict bool, prefixes ...string) {
		for _, p := range prefixes {
			table[p[0]] = append(table[p[0]], shape{p, least, also, strict})
		}
	}
	add(16, "", false, "AKIA", "ASIA", "ABIA", "ACCA", "AROA")
	add(16, "", true, "A3T", "LTAI", "AKID") // AWS, Alibaba, Tencent
	add(30, "", false, "AIza")               // Google
	add(24, "", false, "GOCSPX-")
	add(20, ".", false, "ya29.")
	add(30, "/", true, "1//0")
	add(16, "", false, "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_")
	add(16, ".", false, "glpat-", "gldt-", "glft-", "glffct-", "glimt-", "glagent-", "gloas-", "glptt-", "glrt-",
		"glsoat-", "glcbt-", "glwt-", "glrtr-", "GR1348941")
	add(16, ".", true, "sk-", "pk-lf-", "rk_live_", "rk_test_", "rk_prod_",
		"whsec_", "sk_") // OpenAI, Anthropic, Stripe
	add(10, "", false, "xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxo-", "xoxe-", "xoxe.xoxp-", "xoxe.xoxb-",
		"xoxc-", "xoxd-", "xapp-")
	add(20, "", true, "npm_", "hf_", "api_org_", "r8_", "gsk_", "xai-", "nvapi-", "pplx-", "tvly-", "e2b_", "lsv2_pt_",
		"lsv2_sk_", "wandb_v1_")
	add(20, "", false, "pypi-", "dop_v1_", "doo_v1_", "dor_v1_", "dckr_pat_", "dckr_oat_", "CCIPAT_", "CCIPRJ_",
		"bkua_", "nfp_", "sbp_", "sb_secret_", "rnd_")
	add(20, ".", false, "eyJ") // a JSON Web Token, and other JSON in base64
	add(20, ".", true, "sk.eyJ", "ops_eyJ")
	add(20, ".", true, "SG.", "hvs.", "hvb.", "hvr.", "dapi", "dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.audit.",
		"dt0c01.", "dt0s01.", "sl.")
	add(22, "", true, "s.")
	add(16, "", true, "shpat_", "shpca_", "shppa_", "shpss_", "PMAK-", "NRAK-", "NRII-", "NRJS-", "sq0atp-", "sq0csp-",
		"sq0idp-", "EAAAl", "EAAAE", "shippo_live_", "shippo_test_")
	add(20, "", true, "lin_api_", "lin_oauth_", "ntn_", "secret_", "figd_", "figu_", "rdme_", "rubygems_", "pul-",
		"pscale_tkn_", "pscale_oauth_", "pscale_pw_", "fo1_", "fio-u-",
		"glsa_", "glc_", "sntrys_", "sntryu_", "sgp_", "slk_", "squ_", "sqp_", "sqa_", "tfp_", "tk-us-", "sm_aat_",
		"sm_pat_", "sm_sat_", "xkeysib-", "xsmtpsib-", "phx_", "phs_", "phc_",
		"pat-na1-", "pat-eu1-", "tskey-", "ico-", "easy_", "CLOJARS_", "clojars_", "duffel_live_", "duffel_test_",
		"EZAK", "EZTK", "FLWSECK_TEST-", "FLWSECK-", "p8e-",
		"cio", "oy2", "AGE-SECRET-KEY-", "ATATT3x", "ATCTT3x", "ATBB", "HRKU-", "API-", "key-", "s-s4t2", "sha256~",
		"bedrock-api-key-", "ABSK", "AKCp", "cmVmd",
		"ctp_", "dnkey-", "live_", "test_", "vercel_", "vcp_", "cfut_", "cfat_", "rpa_", "fc-", "jina_", "ccpat_",
		"pnu_", "ion_", "BBDC-", "ghe_", "scw_", "mgp_",
		"u-s4t2", "sdk-", "api-", "mob-", "nsec1", "xprv", "amzn.mws.", "t1.", "AQVN", "EAAC", "EAAM", "SSWS", "bws_",
		"zpka_", "re_", "ory_at_", "ory_rt_", "ory_st_", "ory_pat_",
		"rzp_live_", "rzp_test_", "access-sandbox-", "access-production-", "apify_api_", "CFPAT-", "aio_", "pcsk_",
		"tgp_v1_", "csk-", "fw_", "esecret_", "napi_", "nbp_", "packagist_", "hcaik_", "xaat-", "xapt-", "shptka_",
		"dbtc_", "dbtu_", "tr_prod_", "tr_dev_", "tr_pat_", "secret-live-", "secret-test-", "EXO", "CCDB1_",
		"mdb_sa_sk_", "y0_", "rootly_", "KEY01", "sgd_", "4b1d", "ZXlK", "ddp_", "ddw_", "SCW", "EAAA", "u+", "pnb_")
	add(32, "", true, "A3-", "SK")
	add(40, ".=", true, "pat.", "sat.", "st.", "mlsn.", "atlasv1.", "sc_", "ext_", "scauth_", "authress_")
	add(60, ".", true, "pat", "v1.0-")
	add(32, "+/=", false, "fm1a_", "fm1r_", "fm2_")
	// Keys without their PEM lines, in base64.
	add(40, "+/=", false, "b3BlbnNzaC1rZXktdjE", "MIIEpAIBAAK", "MIIEogIBAAK", "MIIEowIBAAK", "MIIEpQIBAAK",
		"MIICXAIBAAK", "MIICXQIBAAK", "MIIJKQIBAAK", "MIIJKAIBAAK", "MIIEvQIBADAN", "MIIEvgIBADAN",
		"MIIEvAIBADAN", "MIIJQgIBADAN", "MIIJQwIBADAN", "MHcCAQEE", "MHQCAQEE", "MIGHAgEAMBMG", "MIGkAgEBBD",
		"MC4CAQAwBQYDK2V", "MIIG5AIBAAK", "MIIBVAIBADAN")
	return table
}()

// token gives the credential of a known shape, or after Bearer and Basic, that begins at i.
func (m *masker) token(i int) (from, to int) {
	s := m.s
	switch s[i] {
	case 'B', 'b':
		if to := i + len("bearer "); len(s) > to && (strings.EqualFold(s[i:to], "bearer ")) {
			return m.schemed(m.joint(to))
		}
		if to := i + len("basic "); len(s) > to && (strings.EqualFold(s[i:to], "basic ")) {
			from, end := m.schemed(m.joint(to))
			if from < end && encodedPair(s[from:end]) {
				return from, end
			}
			return 0, 0
		}
	case 'L':
		if strings.HasPrefix(s[i:], "LS0tLS1CRUdJTi") {
			return m.encodedPEM(i)
		}
	}
	for n := range shapes[s[i]] {
		p := &shapes[s[i]][n]
		if len(s)-i < len(p.prefix)+p.least || s[i+1] != p.prefix[1] || !strings.HasPrefix(s[i:], p.prefix) {
			continue
		}
		begin := i + len(p.prefix)
		to := begin
		for to < len(s) && (tokenByte(s[to]) || p.also != "" && strings.IndexByte(p.also, s[to]) >= 0) {
			to++
		}
		m.work -= to - begin
		if to-begin >= p.least && (!p.strict || drawn(s[begin:to])) && (p.prefix != "s." || to-begin == 24 &&
			digits(s[begin:to]) > 3) {
			if to < len(s) && s[to] == ':' { // AKIAx:secret
				if _, end := m.schemed(to + 1); random(s[min(to+1, end):end]) {
					to = end
				}
			}
			return i, to
		}
	}
	return 0, 0
}

// tokens hides the credentials of known shapes, wherever they stand.
func (m *masker) tokens() {
	for i := 0; i < m.end; i++ {
		if textClass[m.s[i]] == tokenHead && (i == 0 || !tokenByte(m.s[i-1])) && m.work >= 0 {
			if from, to := m.token(i); from < to {
				if !strings.HasPrefix(m.s[i:], "eyJ") || strings.IndexByte(m.s[from:to], '.') > 0 {
					m.hide(from, to) // a JSON Web Token, not where a list goes on
				}
				i = to - 1
			}
		}
	}
}

// joint gives where a string goes on that code joins of literals, as in 'Bearer ' + 'x', where the first ends at i;
// else i.
func (m *masker) joint(i int) int {
	s := m.s
	n := i
	for n < len(s) && s[n] == '\\' {
		n++
	}
	if n == len(s) || s[n] != '"' && s[n] != '\'' && s[n] != '`' {
		return i
	}
	rest := strings.TrimLeft(s[n+1:min(len(s), n+16)], " \\")
	if i > 0 && s[i-1] == ' ' && n+1 < len(s) && s[n+1] != s[n] && (s[n+1] == '"' || s[n+1] == '\'') {
		return n + 2 // "Token "'x'
	}
	if rest == "" || strings.IndexByte("+.&", rest[0]) < 0 {
		return i
	}
	rest = strings.TrimLeft(rest[1:], ". \\")
	if rest == "" || rest[0] != '"' && rest[0] != '\'' && rest[0] != '`' {
		return i
	}
	return min(len(s), n+16) - len(rest) + 1
}

// schemed gives the credentials that begin at from, after the name of their scheme.
func (m *masker) schemed(from int) (int, int) {
	to := from
	for to < len(m.s) && (tokenByte(m.s[to]) || strings.IndexByte(".~+/=:|", m.s[to]) >= 0) {
		to++
	}
	m.work -= to - from
	if to-from < 8 || digits(m.s[from:to]) == 0 && !random(m.s[from:to]) || pathLike(m.s[from:to]) {
		return 0, 0
	}
	return from, to
}

// drawn tells what was drawn by lot from words-with-dashes: digits within, or letters of both cases mixed.
func drawn(v string) bool {
	v = v[:min(len(v), 64)]
	nums, changes, dashes := 0, 0, 0
	for i := 0; i < len(v); i++ {
		switch {
		case digit(v[i]):
			nums++
		case v[i] == '-' || v[i] == '_' || v[i] == '.':
			dashes++
		case i > 0 && letter(v[i-1]) && upper(v[i]) != upper(v[i-1]):
			changes++
		}
	}
	if dashes*5 > len(v) {
		return false
	}
	return nums+changes >= max(2, len(v)/12)
}

// encodedPEM is for what begins like "-----BEGIN " in base64: a key if it goes on so.
func (m *masker) encodedPEM(i int) (from, to int) {
	s := m.s
	to = i
	for to < len(s) && (letter(s[to]) || digit(s[to]) || s[to] == '+' || s[to] == '/' || s[to] == '=') {
		to++
	}
	m.work -= to - i
	var head [48]byte
	n, _ := base64.StdEncoding.Decode(head[:], []byte(s[i:min(to, i+64)]))
	if strings.Contains(string(head[:n]), "PRIVATE") {
		return i, to
	}
	return 0, 0
}

// pem gives what stands between the lines of a private key that begins at i.
func (m *masker) pem(i int) (from, to int) {
	s := m.s
	head := s[i:min(len(s), i+64)]
	dashes := strings.Index(head[5:], "-----")
	if dashes < 0 || !strings.Contains(head[:5+dashes], "PRIVATE KEY") {
		return 0, 0
	}
	from = i + 5 + dashes + 5
	if strings.HasPrefix(s[from:], `\n`) {
		from += 2
	}
	for from < len(s) && (s[from] == '\n' || s[from] == '\r' || s[from] == ' ') {
		from++
	}
	to = len(s)
	if n := strings.Index(s[from:], "-----END"); n >= 0 {
		to = from + n
		for to > from && (s[to-1] == '\n' || s[to-1] == '\r') {
			to--
		}
		if to-2 > from && s[to-2:to] == `\n` {
			to -= 2
		}
	}
	return from, to
}
