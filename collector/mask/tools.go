// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"fmt"
	"strconv"
	"strings"
)

// tool is what is known of a program, or of one of its sub-commands, besides what names of options say.
type tool struct {
	parent  *tool
	subs    map[string]*tool
	options map[string]kind
	args    []kind // of its arguments that are no options, by position
	every   kind   // of all of these
	flags   string // short options without a value, which may stand before others in one word
	wraps   bool   // it runs the program that its arguments name
	words   bool   // single dashes begin words, not letters: -port is not -p ort
	reads   bool   // standard input is a secret
	slash   bool   // options may begin with a slash, as on Windows
	looks   bool   // it looks for words in files, or shows them: a word after "password" is no secret
}

// kind says what a value is.
type kind uint8

const (
	unknown    kind = iota
	secretWord      // a secret
	named           // a secret by its name
	userPair        // user:secret
	joined          // a secret if it is in the same word as its option: mysql -px
	cookies         // name=secret, or a file
	where           // pass:secret env:NAME file:path
	percent         // user%secret
	comma           // user,secret
	slash           // user/secret@where
	tail            // …:secret
	cert            // file:secret
	assignment      // name=secret, whatever the name
	pairs           // name=value, by its name
	plain           // nothing of that
	people          // a text for people
	program         // code, but not of a shell
	script          // a shell's script
	flag            // there is no value
	input           // there is no value, and standard input is a secret
	shift           // there is no value, and arguments begin one later
	header          // a header
	guess           // a secret if it looks like a password, or there is a user it may be for
	likely          // a secret if it looks like one
	last            // a secret if nothing follows
	acl             // >secret, as redis has it
	target          // domain/user:secret@host
	nameOf          // the name of what another option gives
	valueOf         // what that option gives
	two             // a secret, and another
	then            // nothing, but what follows is a secret
)

var kinds = map[string]kind{
	"secret": secretWord, "named": named, "user": userPair, "joined": joined, "cookie": cookies, "where": where, "percent": percent, "comma": comma, "slash": slash,
	"tail": tail, "cert": cert, "assign": assignment, "pairs": pairs, "plain": plain, "people": people, "code": program, "script": script, "flag": flag,
	"input": input, "shift": shift, "header": header, "guess": guess, "likely": likely, "last": last, "acl": acl, "target": target, "nameof": nameOf, "valueof": valueOf, "two": two, "then": then,
}

// tools by name, sub-commands within.
var tools = readTools(toolTable)

// toolTable has a line for each tool, or for some that are alike: names, then options with the kind of their values.
// A sub-command stands after its command and a slash; it has the options of its command too. #2 is the second argument
// that is no option, * is each of them; flags= lists short options without values; wraps: it runs another program;
// words: options with one dash are words; looks: it looks for words in files, or shows them.
const toolTable = `
curl flags=#0123468aBfgGiIjJklLMnNOpqRsSvVZ -u:user --user:user -U:user --proxy-user:user -b:cookie --cookie:cookie -E:cert --cert:cert --proxy-cert:cert --pass:secret --proxy-pass:secret --tlspassword:secret --proxy-tlspassword:secret --oauth2-bearer:secret --login-options:plain --key:plain --proxy-key:plain -o:plain -A:plain --user-agent:plain -c:plain --cookie-jar:plain --pinnedpubkey:plain -m:plain -T:plain -w:people
wget,wget2 --http-user:plain --user:plain -O:plain -o:plain -P:plain -U:plain -A:plain -e:pairs --load-cookies:plain --save-cookies:plain
http,https,xh,xhs,httpie -a:user --auth:user -A:plain --auth-type:plain -o:plain -p:plain -s:plain --session:plain
ab flags=kqVh -A:user -P:user -C:cookie -p:plain -u:plain -T:plain
hey,bombardier,oha -a:user -t:plain -m:plain -T:plain -c:plain -n:plain -z:plain
siege,wrk,wrk2 -t:plain -c:plain -H:header
wuzz,curlie -u:user
aria2c -i:plain --load-cookies:plain
lynx,links,elinks,w3m -auth:user -pauth:user words
yt-dlp,youtube-dl,gallery-dl -p:secret -u:plain -o:plain -2:secret --twofactor:secret --video-password:secret --ap-password:secret -P:plain
mysql,mysqldump,mysqladmin,mysqlimport,mysqlshow,mysqlslap,mysqlcheck,mysqlbinlog,mysqlpump,mysqlsh,mysql_upgrade,mariadb,mariadb-dump,mariadb-admin,mariadb-import,mariadb-show,mariadb-check,mycli,mydumper,myloader,xtrabackup,innobackupex,mariabackup,pt-table-checksum,pt-query-digest,pt-archiver flags=ABCEfGHNqrstvVw --password:joined -p:joined -u:plain -h:plain -P:plain -D:plain -S:plain -e:code
mycli,mydumper,myloader -p:secret --password:secret -u:plain
mysqladmin/password,mariadb-admin/password #1:secret
psql,pg_dump,pg_dumpall,pg_restore,pgbench,createdb,dropdb,createuser,vacuumdb,pgcli,pg_basebackup,pg_isready,reindexdb,clusterdb,dropuser -W:flag --password:flag -w:flag -U:plain -u:plain -p:plain -P:plain -h:plain -d:plain -c:code -v:pairs
redis-cli,valkey-cli,keydb-cli,iredis -a:secret --pass:secret --user:plain -u:plain -p:plain -h:plain -n:plain
redis-cli/AUTH,redis-cli/auth,valkey-cli/AUTH,valkey-cli/auth *:last
redis-cli/ACL/SETUSER,redis-cli/acl/setuser,valkey-cli/ACL/SETUSER *:acl
redis-cli/HELLO,redis-cli/hello #4:secret #3:plain
mongo,mongosh,mongodump,mongorestore,mongoexport,mongoimport,mongostat,mongotop,mongofiles -p:secret -u:plain -h:plain -d:plain --eval:code --db:plain
sqlcmd,bcp,osql,go-sqlcmd,mssql-cli -P:secret -U:plain -S:plain -d:plain -Q:code -q:code -t:plain -p:plain -v:pairs
isql,tsql,iusql,fisql -P:secret -U:plain -S:plain -p:plain #3:secret
sqlplus,sqlplus64,sqlldr,exp,imp,expdp,impdp,rman,sqlcl,tnsping -S:flag *:slash
db2/connect #5:secret
cqlsh,cassandra-stress,nodetool -p:guess -pw:secret -u:plain -k:plain -e:code words
nodetool -p:plain
influx/query -p:plain
influx,influxd -p:secret -t:secret --password:secret --token:secret -u:plain -o:plain -b:plain -h:plain
clickhouse-client,clickhouse,clickhouse-local -u:plain -q:code --query:code -h:plain
neo4j-admin/set-initial-password,neo4j-admin/dbms/set-initial-password #1:secret
neo4j-admin/set-default-admin #1:plain
cypher-shell -p:secret -u:plain -a:plain -d:plain
beeline,hive,sqlline -p:secret -n:plain -u:plain -e:code words
trino,presto --user:plain
snowsql,snow -u:plain -p:plain -a:plain -q:code
arangosh,arangodump,arangorestore,arangoimport --server.password:secret --server.username:plain
couchbase-cli,cbbackupmgr,cbq,cbimport,cbexport,cbc -p:secret -P:secret -u:plain -c:plain -b:plain
cockroach --user:plain --url:plain
etcdctl --user:user
etcdctl/user/add #1:user
surreal -p:secret --pass:secret -u:plain
dolt,tidb,tiup -p:guess
usql,sqlite3,sqlcipher,duckdb -c:code
ldapsearch,ldapadd,ldapmodify,ldapdelete,ldapwhoami,ldapmodrdn,ldapcompare,ldapexop,ldapvc flags=ZxnvWcAuLMPCIQt -w:secret -y:plain -D:plain -b:plain -H:plain -h:plain -p:plain -s:plain -U:plain -e:plain -f:plain -l:plain -z:plain
ldappasswd flags=ZxnvWcASITn -w:secret -a:secret -s:secret -D:plain -H:plain -t:plain
slappasswd -s:secret -h:plain -T:plain -c:plain
smbclient,rpcclient,smbget,smbtree,net,smbcacls,smbcquotas,wbinfo,winexe,wmic,pth-winexe,samba-tool,ntlm_auth,nmblookup,smbspool,smbmap,mount.cifs,smbpasswd -U:percent --user:percent --pw-nt-hash:flag -a:percent --authenticate:percent -p:guess -o:pairs -A:plain -c:plain -k:flag -s:plain
smbclient --directory:plain --command:code -p:plain -D:plain -I:plain -W:plain -c:code #2:secret
rpcclient -c:script
setuserinfo2,setuserinfo #3:secret
smbmap -p:secret -u:plain -H:plain -d:plain
smbpasswd -s:input
net/rpc/user/password,net/rpc/password,net/ads/password #2:secret
net/use #3:secret
net/user #2:secret
samba-tool/user/create,samba-tool/user/add #2:secret
samba-tool/user/setpassword --newpassword:secret
sshpass wraps -p:secret -f:plain -d:plain -P:plain -e:flag
ssh,autossh,mosh,et,dropbear,dbclient wraps flags=46AaCfGgKkMNnqsTtVvXxYy -p:plain -i:plain -l:plain -o:plain -L:plain -R:plain -D:plain -F:plain -J:plain -b:plain -c:plain -e:plain -E:plain -I:plain -m:plain -O:plain -Q:plain -S:plain -W:plain -w:plain -u:plain -P:plain
scp,sftp,rsync,rdiff-backup,unison -P:plain -p:flag -i:plain -o:plain -e:plain -u:flag -l:plain -a:flag -W:flag --chown:plain --password-file:plain -k:flag -t:flag
plink,pscp,psftp,putty,kitty,klink -pw:secret -pwfile:plain -P:plain -l:plain -i:plain words
ssh-keygen flags=qvBlyceDFgHLpRu -N:secret -P:secret -C:plain -f:plain -t:plain -b:plain -E:plain -Y:plain -n:plain -I:plain -R:plain -F:plain -s:plain -m:plain -a:plain -O:plain
ssh-copy-id,ssh-add,ssh-agent,ssh-keyscan -p:plain -t:plain -i:plain -k:flag
lftp -c:script
open -u:comma
user #2:likely
lftp,lftpget,ncftp,ncftpget,ncftpput,ncftpls,ftp,tnftp,curlftpfs -u:comma --user:comma -p:guess -e:script -P:plain -o:pairs
ncftp,ncftpget,ncftpput,ncftpls -p:secret -u:plain
sshfs,s3fs,davfs2,mount,mount.davfs,gcsfuse,fuse-overlayfs,goofys,mount.nfs -o:pairs -p:plain -t:plain -u:flag -a:flag
docker/run,docker/exec,docker/compose,docker/container,podman/run,podman/exec,nerdctl/run,nerdctl/exec,docker-compose/run,docker-compose/exec,kubectl/exec,kubectl/run,kubectl/debug,oc/exec,oc/rsh,oc/run,uv/run,poetry/run,pipx/run,conda/run,pdm/run,hatch/run,rye/run,npm/exec,pnpm/exec,pnpm/dlx,yarn/dlx,yarn/exec,bun/x,vagrant/ssh,op/run,doppler/run,infisical/run wraps
docker,podman,nerdctl,finch,docker-compose,podman-compose flags=itdq -u:plain --user:plain -p:plain -P:flag -w:plain --secret:plain --creds:user --name:plain -v:plain --network:plain -e:pairs --env:pairs --build-arg:pairs -l:plain --label:plain -t:flag -f:plain -c:plain --key:plain -k:plain --token:secret --decryption-key:plain --host:plain --context:plain -a:plain --config:plain --hash:plain
docker/build,podman/build,docker/buildx,buildah/bud,docker/tag,podman/tag,nerdctl/build,docker/pull,docker/push -t:plain -f:plain
docker/login,podman/login,nerdctl/login,buildah/login,skopeo/login,oras/login,helm/registry/login,crane/auth/login,regctl/registry/login,finch/login,img/login,ctr/login,singularity/remote/login,apptainer/remote/login,apptainer/registry/login,singularity/registry/login,charm/login,kubeapps/login -p:secret -u:plain --password-stdin:input --pass-stdin:input --user:plain
docker/secret,podman/secret *:plain
docker/swarm/join,docker/swarm/init --token:secret
regctl/registry/set -p:secret -u:plain
buildah,skopeo,oras,crane,ctr,crictl,img,kaniko,regctl,umoci,imgpkg,singularity,apptainer --creds:user --src-creds:user --dest-creds:user --auth:named --user:plain -u:plain -p:plain --from-username:plain --registry-token:secret --src-registry-token:secret --dest-registry-token:secret --authfile:plain
ctr --user:user -u:user
crictl --creds:user --auth:secret
kubectl,oc,k3s,microk8s,minikube,k9s,kubecolor,kind,eksctl,kubeadm -p:plain -u:plain --user:plain -n:plain -l:plain -o:plain --from-literal:assign -f:plain -c:plain -k:plain --output:plain --field-selector:plain --tls-secret:plain --secret:plain -t:flag -i:flag --selector:plain --docker-username:plain
kubectl/create/secret,oc/create/secret reads --from-literal:assign --from-file:plain --key:plain --cert:plain
kubectl/create/token,oc/create/token *:plain
kubectl/get,kubectl/describe,kubectl/delete,oc/get,oc/describe,oc/delete,kubectl/edit,kubectl/logs,kubectl/label,kubectl/annotate *:plain
kubectl/patch,oc/patch -p:code --patch:code
oc/login -p:secret -u:plain -t:secret
oc/secrets,oc/set *:plain
kubeadm --ttl:plain --description:people --groups:plain --usages:plain
kubeadm/join --token:secret --certificate-key:secret --discovery-token-ca-cert-hash:plain --discovery-token:secret
kubeadm/token/create,kubeadm/token/delete #1:secret
helm,helmfile --set:pairs --set-string:pairs --username:plain -n:plain -f:plain
helm/registry/login -p:secret -u:plain
argocd,argo,flux,velero,rancher,cmctl,istioctl,linkerd --username:plain -u:plain -p:pairs -o:plain
argocd/login --password:secret
argocd/account/update-password --current-password:secret --new-password:secret
rancher/login -t:secret --token:secret
flux/bootstrap --token-auth:flag
oathtool flags=bvds *:secret -s:plain -N:plain -S:plain -w:plain -d:plain -c:plain
az -t:plain --tenant:plain --username:plain -u:plain -n:plain -g:plain --resource-group:plain -o:plain --query:plain --name:plain --object-id:plain --scope:plain
az/login,az/acr/login -p:secret -u:plain --username:plain
az/ad,az/vm,az/sql,az/mysql,az/postgres,az/webapp/deployment,az/aks -p:secret --admin-password:secret
az/keyvault/secret,az/keyvault/secret/set --value:secret -n:plain
az/keyvault/key,az/keyvault/certificate -p:plain
az/storage,az/cosmosdb,az/batch,az/redis --account-key:secret --sas-token:secret
aws --secret-id:plain --profile:plain --region:plain --query:plain --output:plain --key:plain --key-id:plain --name:plain --user-name:plain --user:plain --cli-input-json:pairs --starting-token:plain --next-token:plain --role-arn:plain --serial-number:plain --secret-string:secret --token-code:secret --master-user-password:secret --image-id:plain --client-request-token:plain --sort-key:plain
aws/s3api,aws/s3 --key:plain --sse-c-key:secret --sse-customer-key:secret --copy-source-sse-customer-key:secret
aws/secretsmanager --name:plain --description:people --secret-id:plain --secret-string:secret --secret-binary:secret
aws/ssm --name:plain --names:plain
aws/configure/set #2:plain
gcloud,gsutil,bq --account:plain --project:plain --key:plain --format:plain --set-secrets:plain --update-secrets:plain --secret:plain --filter:plain -u:plain -o:pairs -h:header --member:plain
gcloud/secrets *:plain --data-file:plain
gcloud/auth *:plain
ibmcloud,bx,ic --apikey:secret -u:plain -p:secret -o:plain -g:plain -r:plain -s:plain -a:plain
cf,cf7,cf8 -a:plain -p:plain -u:plain -o:plain -s:plain -f:plain -c:plain
cf/login,cf/l -p:secret
cf/auth #2:secret
doctl -t:secret --access-token:secret
flyctl,fly -t:secret --access-token:secret -a:plain -o:plain -r:plain
fly/login,flyctl/login -p:secret -u:plain -t:plain -c:plain
vercel/env/add,vc/env/add *:plain
vercel,vc,now -t:secret --token:secret -S:plain -e:pairs -b:pairs
netlify,ntl --auth:secret
netlify/env:set,ntl/env:set #2:secret
heroku/config:set *:pairs
heroku/authorizations:create -d:people
railway,render,koyeb,northflank --token:secret
surge --token:secret
firebase --token:secret
wrangler/secret *:plain
wrangler/secret/put,gh/secret/set,flyctl/secrets/import,fly/secrets/import,vercel/env/add,pass/insert,gopass/insert,secret-tool/store,wg/pubkey,chpasswd,vncpasswd,cryptsetup,rclone/obscure,ssh-add,ktutil,docker/secret/create,podman/secret/create,gcloud/secrets/create,gcloud/secrets/versions/add,mkpasswd,htpasswd,smbpasswd,keyring/set,heroku/auth,vault/login,doppler/secrets/set,pulumi/config/set,firebase/functions:secrets:set,supabase/secrets,kinit,slappasswd,wpa_passphrase,openssl/passwd,huggingface-cli/login,wandb/login,npm/login reads
supabase/login --token:secret
supabase/link,supabase/db -p:secret --password:secret
supabase/secrets/set,fly/secrets/set,flyctl/secrets/set,fly/secrets/import,doppler/secrets/set,infisical/secrets/set,railway/secrets/set,modal/secret/create,dagger/secret/set,cap/secrets/set,koyeb/secrets/create *:assign
infisical/login --client-secret:secret --token:secret
doppler,doppler/configure -t:secret --token:secret
doppler/configure/set *:pairs
doppler/secrets/get,doppler/secrets/download,infisical/secrets/get *:plain
op --session:secret --account:plain --vault:plain --fields:plain --field:plain -p:plain --title:plain
op/item/create,op/item/edit *:pairs
op/item/get,op/read *:plain
bw,bws,rbw --passwordenv:plain --passwordfile:plain --session:secret -t:secret --access-token:secret -p:plain
bw/login #2:secret --code:secret
bw/unlock #1:secret
bw/get,bw/list,bw/create,bw/edit *:plain
pass,gopass,passage looks
lpass,keepassxc-cli -k:plain
vault,bao words -accessor:plain -id:plain -token:secret -address:plain -field:plain -mount:plain -method:plain -role:plain
vault/login,bao/login #1:named *:pairs
vault/unwrap,bao/unwrap #1:secret
vault/operator/unseal,bao/operator/unseal,vault/operator/rekey,vault/operator/generate-root #1:secret
vault/token/lookup,vault/token/revoke,vault/token/renew,bao/token/lookup,bao/token/revoke,bao/token/renew,vault/token/capabilities #1:secret
vault/kv/put,vault/kv/patch,bao/kv/put,bao/kv/patch *:assign
vault/write,bao/write *:pairs
vault/read,vault/list,vault/kv/get,vault/secrets,vault/auth,vault/policy,bao/read,bao/kv/get,vault/delete,vault/path-help *:plain
consul,nomad,boundary,waypoint words -token:secret -http-auth:user -encrypt:secret -datacenter:plain -gossip:secret
consul/keygen,consul/keyring words -install:secret -use:secret -remove:secret
nomad/operator/keyring,consul/operator words -install:secret
serf words -encrypt:secret
terraform,tofu,terragrunt,packer words -var:pairs -backend-config:pairs -var-file:plain -out:plain
pulumi/config/set --secret:flag -s:plain
pulumi/login *:plain
ansible,ansible-playbook,ansible-console,ansible-pull,ansible-navigator flags=bkKvCD -e:pairs --extra-vars:pairs -u:plain -i:plain -t:plain --tags:plain -l:plain -m:plain -a:script -k:flag -K:flag --key-file:plain --private-key:plain --vault-id:plain
ansible-vault --vault-id:plain --encrypt-vault-id:plain --vault-password-file:plain
ansible-vault/encrypt_string #1:secret --name:plain -n:plain --stdin-name:plain
knife,chef-client,chef -P:secret -x:plain -i:plain -p:plain -k:plain -u:plain
salt,salt-call,salt-ssh --passwd:secret -t:plain
puppet,bolt -p:guess --password:secret -u:plain
vagrant,virsh,virt-install *:plain
virsh/secret-set-value #2:secret --base64:secret
virsh/set-user-password #3:secret
virt-customize,virt-builder,virt-sysprep --root-password:tail --password:tail --ssh-inject:plain
qemu-img,qemu-system-x86_64,qemu-system-aarch64,qemu-nbd,qemu-io,kvm -object:pairs --object:pairs -p:plain -u:plain -vnc:plain words
vmrun -gp:secret -vp:secret -p:secret -gu:plain -u:plain -h:plain -T:plain words
govc,ovftool,esxcli,pwsh-esx -u:plain -k:flag -p:guess words
jenkins-cli,jcli -auth:user words
java,javaw -auth:user wraps -jar:plain -cp:plain -classpath:plain words
mvn,mvnw --encrypt-password:secret -ep:secret --encrypt-master-password:secret -emp:secret -s:plain -pl:plain -P:plain -f:plain -t:plain words
gradle,gradlew,sbt,ant,lein,mill -P:pairs -p:plain -t:flag -u:flag -x:plain words
keytool,jarsigner,storepasswd words -storepass:secret -keypass:secret -new:secret -srcstorepass:secret -deststorepass:secret -srckeypass:secret -destkeypass:secret -alias:plain -keystore:plain -storepass:env:plain -storepass:file:plain -keypass:env:plain -keypass:file:plain -srcstorepass:file:plain -srcstorepass:env:plain -deststorepass:file:plain -deststorepass:env:plain -sigalg:plain -sig:plain
apksigner,zipalign,bundletool --ks-pass:where --key-pass:where --ks:plain --key:plain --ks-key-alias:plain
signtool,signtool.exe,osslsigncode,jsign words /p:secret -pass:secret -p:secret --storepass:secret --keypass:secret -readpass:plain -t:plain -ts:plain -key:plain -certs:plain
codesign,productsign,pkgbuild -s:plain -k:plain
xcrun,altool,notarytool -p:guess -u:plain --username:plain --apple-id:plain --apiKey:plain --apiIssuer:plain --password:named --key:plain --key-id:plain --keychain-profile:plain
xcrun/altool -p:secret
security/unlock-keychain,security/create-keychain,security/add-generic-password,security/add-internet-password -p:secret -w:secret -a:plain -s:plain -l:plain -A:flag -U:flag
security/import -P:secret -k:plain -t:plain -f:plain
security/set-key-partition-list -k:secret -S:plain
security/find-generic-password,security/find-internet-password -w:flag -s:plain -a:plain -g:flag
security/set-keychain-password -o:secret -p:secret
dscl words -passwd:plain #4:secret #5:secret
certutil -p:secret -d:plain -n:plain -K:flag -f:plain words
pk12util -W:secret -K:secret -w:plain -k:plain -d:plain -n:plain -i:plain -o:plain
certreq,cmdkey,runas,psexec,psexec.exe,schtasks /pass:secret /p:secret /rp:secret -p:secret -u:plain /user:plain /u:plain
xfreerdp,xfreerdp3,wlfreerdp,sdl-freerdp,mstsc /p:secret /gp:secret /pth:secret /u:plain /v:plain /d:plain /port:plain /gu:plain
rdesktop -p:secret -u:plain -d:plain -g:plain -k:plain
x11vnc,vncserver,x0vncserver,vncviewer,tigervnc words -passwd:secret -viewpasswd:secret -rfbauth:plain
x2goclient,nxclient words
vncpasswd -f:input
vncdo,vncdotool,vnccapture -p:secret -s:plain
ttyd,gotty,shell2http,filebrowser,wetty -c:user --credential:user -p:plain -t:pairs
ttyd flags=WOoq
jupyter,jupyter-lab,jupyter-notebook -p:plain
code-server,openvscode-server --auth:plain --connection-token:secret
mitmproxy,mitmdump,mitmweb,proxy.py --proxyauth:user --upstream-auth:user --basic-auth:user -p:plain --set:pairs -s:plain -w:plain
openssl words -passin:where -passout:where -pass:where -k:secret -K:secret -hmac:secret -psk:secret -srp_pass:secret -srppass:secret -password:where -pwd:where -in:plain -out:plain -key:plain -keyout:plain -inkey:plain -CAkey:plain -iv:plain -S:plain -salt:plain -signature:plain -sign:plain -verify:plain -passcerts:plain -challenge:secret -macopt:pairs -mac:plain -kfile:plain -subj:plain -config:plain -peerkey:plain -pubkey:flag -signkey:plain -proxy_pass:where -name:plain -sigopt:plain -pkeyopt:pairs -keypass:where -certpass:where -secret:where -cert:plain -CA:plain
openssl/passwd words -salt:plain -in:plain *:secret -stdin:flag -6:flag -5:flag -1:flag -apr1:flag
openssl/mac words -macopt:pairs
openssl/rand,openssl/genrsa,openssl/genpkey words *:plain
gpg,gpg2,gpgv,gpg-preset-passphrase,gpg-connect-agent --passphrase:secret -u:plain --local-user:plain -r:plain --recipient:plain --homedir:plain -o:plain -a:flag --recv-keys:plain --recv-key:plain --send-keys:plain --default-key:plain --export-secret-keys:plain --export-secret-key:plain --passphrase-fd:plain --delete-secret-key:plain --delete-key:plain --sign-key:plain --lsign-key:plain --list-key:plain --edit-key:plain --import-key:plain --keyserver-options:plain --quick-add-key:plain --quick-generate-key:plain --quick-gen-key:plain --try-secret-key:plain --override-session-key:secret --encrypt-to:plain
gpg-preset-passphrase -P:secret
age,rage,age-plugin-yubikey -r:plain -i:plain -R:plain -o:plain -p:flag
minisign,signify -P:plain -p:plain -x:plain -s:plain
sops,cosign,notation,rekor-cli,minisign,signify --key:plain -k:plain --age:plain -p:plain -u:plain --set:pairs
ccrypt,mcrypt,bcrypt,scrypt,aespipe,encfs,gocryptfs -K:secret -k:secret -p:plain -E:plain
mcrypt -k:secret
zip,zipcloak,zipnote,zipsplit,unzip,funzip flags=rqjvo9efmuTXy0123456789AabcCDdFglnLSpstVxZ -P:secret --password:secret -d:plain
7z,7za,7zr,7zz,7zzs,p7zip -p:joined -w:plain words
rar,unrar,unrar-free,lsar,unar -p:joined -hp:joined -password:secret words
unar,lsar -p:secret -o:plain
tar,bsdtar,gtar -p:flag --passphrase:secret
qpdf --password:secret --encrypt:two
qpdf/decrypt *:plain
pdftk input_pw:secret user_pw:secret owner_pw:secret *:plain
pdftotext,pdftoppm,pdfinfo,pdfimages,pdftocairo,pdfunite,pdftohtml,pdftops,pdffonts,pdfdetach,mutool,pdfcpu words -upw:secret -opw:secret -p:guess -f:plain -l:plain
mutool -p:secret
gs,ghostscript words
soffice,libreoffice,msoffcrypto-tool -p:secret
restic,rustic,kopia,borg,duplicity,duplicacy,attic --encrypt-key:plain --sign-key:plain
restic,rustic,kopia,borg,duplicity,duplicacy,bup,tarsnap --password-command:plain --insecure-no-password:flag -r:plain -p:plain --password:secret
kopia -p:secret
rclone --password-command:plain
rclone/obscure #1:secret
rclone/config/create,rclone/config/update,rclone/config/password *:pairs
s3cmd,s4cmd,s5cmd --secret_key:secret --access_key:secret -c:plain -P:flag
mc/alias/set,mc/config/host/add,mcli/alias/set #3:secret #4:secret
mc/admin/user/add,mcli/admin/user/add #3:secret
mc,mcli --attr:pairs --encrypt-key:secret
b2/account/authorize,b2/authorize-account,b2/authorize_account #2:secret
azcopy,swift,openstack,nova,glance,keystone,cinder,neutron -K:secret --os-password:secret --os-token:secret --os-username:plain -U:plain -A:plain --os-auth-url:plain -f:plain -c:plain
openstack/user/create,openstack/user/set --password:secret
aliyun,tccli,hcloud,scw,exo,oci,yc,linode-cli,vultr-cli,cloudscale --token:secret
scw *:pairs
wp --dbpass:secret --user_pass:secret --admin_password:secret --dbuser:plain --user:plain --prompt:plain
wp/user/reset-password,wp/option/get *:plain
drush/user:password,drush/upwd,drush/user-password,drush/uli #2:secret
drush,drupal,magento,occ,artisan,n98-magerun --account-pass:secret --db-password:secret --admin-password:secret --password-from-env:flag --db-user:plain
git -c:pairs -m:people --message:people -am:people -S:flag --author:people -u:plain -p:flag -C:plain --grep:plain -k:flag
git/log,git/grep,git/show,git/diff,git/checkout,git/add,git/commit,git/branch,git/tag,git/mv,git/rm,git/merge,git/switch,git/restore,git/blame,git/rebase,git/stash,git/reset looks -S:plain -G:plain --author:plain --grep:plain -m:people -L:plain -e:plain -t:plain -F:plain --trailer:people
git/credential,git/credential-store looks
git/push,git/fetch,git/pull -u:flag -o:pairs
svn,svnadmin,svnsync,svnrdump --password:secret --username:plain -m:people -r:plain
hg --config:pairs -m:people -u:plain
p4,cvs,bzr -P:secret -u:plain -p:plain
p4 -c:plain
npx,bunx wraps -p:plain
npm,pnpm,yarn,bun,lerna,nx -p:plain -w:plain -t:plain -c:script --otp:secret --workspace:plain --tag:plain -g:flag -D:flag
npm/config/set,pnpm/config/set,yarn/config/set,npm/set,bun/config/set *:pairs
npm/run,npm/run-script,yarn/run,pnpm/run,bun/run,npm/install,npm/i,npm/exec,yarn/add,pnpm/add,npm/pkg,npm/test,npm/view,npm/search,npm/token *:plain
uvx wraps
twine,poetry,uv,flit,hatch,pdm,pip,pip3,pipx,conda,mamba,micromamba,rye -u:plain -p:plain -r:plain -i:plain -t:plain -n:plain -k:plain
twine/upload,poetry/publish,uv/publish,pdm/publish,hatch/publish,rye/publish -p:secret -u:plain -P:secret -t:secret -a:secret
hatch/publish -a:secret
pip/config/set,pdm/config,hatch/config/set *:pairs
cargo/login #1:secret --registry:plain
cargo/owner *:plain
cargo -p:plain --token:secret -F:plain
cargo/test,cargo/run,cargo/add,cargo/build,cargo/bench,cargo/check,cargo/nextest,cargo/search,cargo/install *:plain -p:plain
gem -P:plain -k:plain --key:plain -p:plain -u:plain --otp:secret
bundle/config,bundler/config #2:user
bundle/config/set,bundler/config/set #2:user
composer/config *:pairs
nuget,dotnet words -k:secret -sk:secret --api-key:secret -ApiKey:secret -p:guess -u:plain -s:plain --source:plain -n:plain -c:plain -f:plain -r:plain -o:plain -Password:secret --symbol-api-key:secret -t:plain --filter:plain
nuget/setApiKey,nuget/setapikey #1:secret
dotnet/nuget/add,dotnet/nuget/update,nuget/sources -p:secret --password:secret
dotnet/nuget/push,nuget/push #2:guess
dotnet/run,dotnet/build,dotnet/test,dotnet/publish,dotnet/add,dotnet/dev-certs -p:plain --property:pairs
dotnet/dev-certs/https -p:secret
dotnet/user-secrets/set #2:secret -p:plain
dotnet/user-secrets/list,dotnet/user-secrets/remove *:plain
choco,winget,scoop -k:secret --key:secret -u:plain -p:secret -s:plain -a:plain
jfrog,jf --apikey:secret --user:plain
gh -b:people --body:people -t:people --title:people -m:people --notes:people -n:people -H:header -f:pairs -F:pairs -q:plain --jq:plain -R:plain
gh/secret/set,gh/secret -b:secret --body:secret -R:plain -e:plain -o:plain -f:plain
gh/variable/set,gh/variable -b:plain --body:plain
gh/auth,gh/auth/login --with-token:input -s:plain --scopes:plain -h:plain
gh/search,gh/run,gh/workflow,gh/repo looks
glab -t:guess --token:secret --body:people --title:people -m:people -d:people
glab/auth/login -t:secret
glab/variable/set,glab/variable/update -v:secret --value:secret #2:secret
hub,tea,lab -m:people
tea/login/add,tea/logins/add -t:secret -p:secret --otp:secret
circleci,circleci/setup --token:secret
twilio/login #1:plain
systemd-creds/encrypt reads
travis/encrypt *:assign
travis/login,travis -t:secret --github-token:secret -g:secret
buildkite-agent,buildkite-agent/start --token:secret
gitlab-runner,gitlab-runner/register -r:secret -t:secret --registration-token:secret --token:secret
drone,woodpecker-cli -t:secret --token:secret
drone/secret/add,drone/secret/update,woodpecker-cli/secret/add --data:secret --value:secret
codecov,codecovcli,coveralls,codeclimate-test-reporter,cc-test-reporter -t:secret -r:secret --token:secret -f:plain -F:plain
codecovcli/upload-process,codecovcli/do-upload -t:secret
snyk/auth,snyk/config/set #1:named
sentry-cli --auth-token:secret --api-key:secret
sonar-scanner,sonar-scanner-cli,dotnet-sonarscanner -D:pairs
sqlmap --csrf-token:plain --csrf-url:plain
bundle-audit,trivy,grype,syft --token:secret --username:plain
trivy,grype,gitleaks,trufflehog,detect-secrets looks
newman,k6,postman,hurl,artillery,schemathesis -e:pairs --env-var:pairs --global-var:pairs --variable:pairs -u:user -a:user
newman/run -e:plain
hurl -u:user --user:user
k6/login,k6/cloud/login -t:secret --token:secret
grpcurl,grpcui,evans,websocat,wscat words -H:header --auth:user -d:code -a:user -x:plain -P:flag
wscat --auth:user
mosquitto_pub,mosquitto_sub,mosquitto_rr flags=dqrnlsvRNCcE -P:secret --pw:secret -u:plain -t:plain -m:code -h:plain -p:plain -i:plain
mosquitto_passwd flags=bcDUn #3:secret
mqtt,mqttx,hivemq -pw:secret --password:secret -P:secret -u:plain -p:plain -m:code -t:plain
mqttx -P:secret
rabbitmqctl/add_user,rabbitmqctl/change_password,rabbitmqctl/authenticate_user #2:secret
rabbitmqadmin -p:secret -u:plain -P:plain -H:plain
rabbitmqadmin/declare *:pairs
amqp-publish,amqp-consume --password:secret -u:plain -b:code
kcat,kafkacat -X:pairs -F:plain -t:plain -k:plain -b:plain -p:plain
kafka-configs.sh,kafka-configs --add-config:pairs
nats -s:plain --user:plain
sipp words -ap:secret -au:plain -p:plain -s:plain -sn:plain
swaks -ap:secret --auth-password:secret -au:plain --auth-user:plain -p:plain -s:plain -t:plain -f:plain -a:plain --body:people --header:people
sendemail,sendEmail -xp:secret -xu:plain -u:people -m:people -s:plain -f:plain -t:plain words
mailx,mail,s-nail,mutt,neomutt,msmtp,mailsend,mailsend-go -S:pairs -s:people -pass:secret -e:pairs -a:plain -u:plain -p:plain words
imapsync,isync,mbsync,offlineimap,getmail,fetchmail --password1:secret --password2:secret --user1:plain --user2:plain
snmpget,snmpwalk,snmpset,snmpbulkwalk,snmpbulkget,snmpgetnext,snmpstatus,snmptrap,snmptable,snmpdf,snmpinform,snmptest,snmptranslate,check_snmp,snmpcheck,snmp-check -c:secret -A:secret -X:secret -3K:secret -3m:secret -3M:secret -C:plain -u:plain -v:plain -a:plain -x:plain -l:plain -m:plain -M:plain -O:plain -t:plain -r:plain -p:plain
onesixtyone -c:plain
check_snmp -C:secret
check_http,check_ldap,check_mysql,check_pgsql,check_imap,check_smtp,check_tcp,check_ftp,check_nt -a:user -P:secret -p:guess -A:plain -u:plain -l:plain -H:plain -d:plain
check_http,check_tcp -P:plain -p:plain
check_mysql,check_pgsql -p:secret -P:plain
ipmitool,ipmiutil,bmc-config,ipmi-sensors,ipmi-chassis,ipmipower,ipmi-sel -P:secret -p:guess -U:plain -u:plain -k:secret -y:secret -H:plain -h:plain -I:plain -L:plain -C:plain
ipmi-sensors,ipmi-chassis,ipmipower,ipmi-sel,bmc-config -p:secret -P:plain
ipmitool/user/set/password #2:secret #3:plain
ipmitool/user/test #3:secret
ipmitool -p:plain
racadm,racadm.exe,hpasmcli,ilorest,redfishtool,storcli,ssacli -p:secret -u:plain -r:plain -i:plain
racadm/set #2:named
nmcli -s:flag -g:plain -f:plain wifi-sec.key-mgmt:plain 802-11-wireless-security.key-mgmt:plain
wpa_passphrase #2:secret
wpa_cli *:pairs
iwconfig,iw,ifconfig,ip,bridge,tc *:plain
iw,iwconfig key:tail
ip/xfrm enc:then auth:then aead:then auth-trunc:then comp:then
wg,wg-quick *:plain
openvpn,openconnect,vpnc,forticlient,openfortivpn,snx,globalprotect --auth-user-pass:plain -p:secret -u:plain --password:secret --cookie:secret -C:secret --token-secret:secret --otp:secret -o:secret -c:plain -P:plain --user:plain -U:plain --key-password:secret --pem-passphrase:secret
openvpn -p:plain
openconnect -p:secret -k:plain -o:plain --passwd-on-stdin:input
tailscale,headscale,zerotier-cli,netbird,nebula --authkey:secret --auth-key:secret --setup-key:secret -k:secret
ngrok,ngrok/http --authtoken:secret --basic-auth:user --auth:user --oauth:plain
ngrok/authtoken,ngrok/config/add-authtoken,ngrok/config/add-api-key,ngrok/add-authtoken #1:secret
cloudflared --token:secret
cloudflared/service/install #1:secret
frpc,frps,chisel,gost,bore,lt -t:secret --token:secret --auth:user -s:plain -p:plain -L:plain -F:plain
bore -s:secret --secret:secret
ss-server,ss-local,ss-redir,ss-tunnel,ss-manager,sslocal,ssserver,obfs-server -k:secret -p:plain -s:plain -m:plain -l:plain -t:plain -u:flag
socat,stunnel,ncat,nc,proxytunnel,corkscrew,connect-proxy --proxy-auth:user -P:user -p:plain -u:flag -e:plain -c:script
ncat -P:plain -p:plain
nc,stunnel -P:plain
proxychains,proxychains4,torsocks,tsocks wraps -f:plain
dig,nsupdate,rndc,delv,host,tsig-keygen,kdig,knsupdate -y:tail -p:plain -k:plain -b:plain -t:plain -c:plain
addprinc,add_principal,ank,cpw,change_password -pw:secret
kadmin,kadmin.local -w:secret -pw:secret -p:plain -q:script -k:flag
kadmin/addprinc,kadmin/cpw,kadmin.local/addprinc,kadmin.local/cpw -pw:secret
kinit,klist,kvno,ktutil -k:flag -t:plain -p:flag -c:plain
ipa,ipa-client-install,ipa-server-install,ipa-replica-install,realm,adcli,ipa-getkeytab -w:secret -p:secret -a:secret -P:plain -U:flag -n:plain -r:plain -k:plain -s:plain
ipa-client-install -p:plain
ipa,realm,adcli -p:plain -w:flag -a:plain
ipa-getkeytab -p:plain -P:flag
nxc,netexec,crackmapexec,cme,evil-winrm,kerbrute,bloodhound-python,ldapdomaindump,enum4linux,enum4linux-ng,medusa,hydra,ncrack,patator,certipy,rpcdump,lookupsid.py,secretsdump.py,psexec.py,wmiexec.py,smbexec.py,GetUserSPNs.py,GetNPUsers.py,secretsdump,mssqlclient.py,impacket-secretsdump,impacket-psexec,impacket-wmiexec,impacket-smbexec,impacket-mssqlclient,impacket-GetUserSPNs,impacket-smbclient,atexec.py,dcomexec.py,smbclient.py,getTGT.py,impacket-getTGT,impacket-dcomexec,impacket-atexec,impacket-GetNPUsers,impacket-lookupsid,impacket-ntlmrelayx,impacket-GetADUsers,addcomputer.py,samrdump.py,services.py,GetADUsers.py,findDelegation.py,reg.py,ticketer.py,rbcd.py,dacledit.py words -p:secret -hashes:secret -H:secret -aesKey:secret -u:plain --hashes:secret -P:plain -L:plain -l:plain -computer-pass:secret -s:plain -dc-ip:plain -outputfile:plain -d:plain -o:plain -M:plain -x:code -X:code *:target
hydra,medusa,ncrack -p:secret -P:plain -s:plain -H:plain
medusa,hydra -h:plain
hydra,medusa,ncrack,patator *:plain
ncrack -p:plain --pass:secret
nmap,masscan,zmap,nikto,sqlmap,wfuzz,ffuf,gobuster,feroxbuster,wpscan,dirb,nuclei,zap-cli -p:plain -u:plain -P:plain -id:user --auth-cred:user --basic:user --cookie:cookie -b:cookie -H:header --api-token:secret -t:plain -k:flag -U:plain -a:plain -w:plain -c:plain -s:plain
gobuster -P:secret
htpasswd flags=cmBdspDvi5r2 -b:flag -n:shift -i:flag -C:plain -r:plain #3:secret
htdigest,mkpasswd,whois,grub-mkpasswd-pbkdf2,pwgen,makepasswd,busybox,caddy *:plain
mkpasswd -m:plain --method:plain -S:plain --salt:plain -s:input -R:plain -P:plain #1:secret #2:plain
caddy/hash-password --plaintext:secret -p:secret
useradd,usermod,adduser,groupadd,gpasswd,newusers,chage -p:secret --password:secret -u:plain -g:plain -G:plain -c:people -k:plain -o:flag -a:plain -d:plain -s:plain -M:plain
adduser,gpasswd,chage -p:flag
gpasswd -a:plain
chpasswd,chpasswd.pl -c:plain
passwd --stdin:input
cryptsetup,veracrypt,truecrypt,zuluCrypt-cli,cryptmount -p:secret --password:secret --new-password:secret -k:plain --key-file:plain -d:plain -t:flag -s:plain -c:plain -h:plain
cryptsetup -p:plain
zuluCrypt-cli -p:secret
pveum,pvesh,pct,qm,pvesm,proxmox-backup-client -password:secret --password:secret --cipassword:secret words
pveum/passwd *:plain
ejabberdctl/register,ejabberdctl/change_password,ejabberdctl/check_password,prosodyctl/register #3:secret
asadmin,wsadmin.sh,add-user.sh,jboss-cli.sh,standalone.sh,jmxterm -p:secret --password:secret -u:plain -a:flag -g:plain words
asadmin -p:plain
standalone.sh -p:plain
kcadm.sh,kcadm,kcreg.sh -s:pairs -r:plain
kcadm.sh/config/credentials,kcadm/config/credentials --password:secret --secret:secret --user:plain
kcadm.sh/set-password,kcadm/set-password -p:secret --new-password:secret
adb,fastboot,bluetoothctl *:plain
adb/pair #2:secret
steam,steamcmd words -login:then +login:then
tmux,screen -t:plain -s:plain -c:plain -n:plain
expect -c:script
spawn wraps
python,python2,python3,pypy,pypy3,node,nodejs,deno,bun,perl,ruby,php,lua,Rscript,ghci,julia,elixir,iex,osascript,groovy,tclsh,jshell,irb,jq,yq,awk,gawk,mawk -c:code -e:code -E:code -r:code -p:code --eval:code -E:code -m:plain -i:plain --arg:plain --argjson:plain -v:pairs -F:plain -l:plain -u:flag #1:code
jq,yq,awk,gawk,mawk *:code
python,python2,python3,pypy,pypy3,node,nodejs,php,ruby,perl,deno wraps
bash,sh,dash,zsh,ksh,fish,ash,busybox -c:script -o:plain --rcfile:plain --init-file:plain
su,runuser,script,flock,doas,pkexec,systemd-run,nsenter,unshare,chroot,machinectl,firejail,bwrap,watch,xargs,parallel,timeout,nice,ionice,nohup,setsid,stdbuf,time,env,command,exec,strace,ltrace,gdb,valgrind,perf,catchsegv,faketime,dumb-init,tini,gosu,su-exec,setpriv,taskset,chrt,numactl,prlimit,caffeinate,chpst,softlimit,multitime,hyperfine,entr,watchexec,nodemon,dotenv,aws-vault,direnv,devbox,mise,asdf,sg,unbuffer,rlwrap,eval,builtin,winpty,cmd,find,fd,if,then,else,do,while,until,elif,!,{ wraps -c:script -u:plain --user:plain -g:plain -s:plain -k:plain -p:plain -n:plain -e:plain -S:plain -I:plain -P:plain -L:plain -d:plain -C:plain -w:plain -o:plain -t:plain --chdir:plain --property:pairs --setenv:pairs -E:plain -name:plain --uid:plain --signal:plain -a:plain
env -S:script -i:flag
time,nohup,exec,command,setsid,if,then,else,do,while,until,elif,!,{ -p:flag
find,fd -p:plain words
xargs,find -d:plain
sudo wraps flags=AbEeHiKklnSsVv -u:plain -g:plain -p:people --prompt:people -S:input --stdin:input -U:plain -C:plain -D:plain -R:plain -T:plain -h:plain --user:plain --group:plain -r:plain -t:plain
su -c:script -s:plain
grep,egrep,fgrep,rg,ag,ack,ripgrep,zgrep,ls,cat,less,more,head,tail,wc,sort,uniq,man,info,apropos,which,whereis,type,cd,mkdir,rmdir,rm,cp,mv,touch,chmod,chown,ln,stat,file,diff,tree,locate,vi,vim,nvim,nano,emacs,code,du,df,tee,xxd,od,strings,base64,md5sum,sha256sum,test,[,basename,dirname,realpath,readlink,comm,cut,tr,paste,column,jobs,ps,kill,pgrep,pkill,top,htop,id,groups,getent,journalctl,systemctl,service,loginctl,hostnamectl,lsof,ss,netstat,apt,apt-get,apt-cache,dpkg,yum,dnf,rpm,apk,pacman,brew,snap,flatpak,make,cmake,ninja,go,rustc,gcc,g++,clang,cc,ld,javac,tsc,eslint,prettier,jest,mocha,pytest,tox,nox,mypy,ruff,black,phpunit,rspec,rake,bazel,date,cal,sleep,seq,yes,tput,clear,alias,trap,set,shopt,ulimit,umask,export,unset,declare,local,readonly,typeset,source,.,return,exit,for,select,case,function,whoami,w,who,last,uname,hostname,lsblk,blkid,fdisk,crontab,at,install,logger,wall,write,nspawn,systemd-nspawn,setfacl,getfacl,chgrp,dd,rename looks -u:plain -p:plain -U:plain -e:plain -k:plain -t:plain -o:plain -f:plain -a:plain --user:plain -w:plain -P:plain
pytest -k:plain -m:plain -p:plain
echo,printf,notify-send,read,say,figlet,cowsay,banner *:people -p:people -n:flag -e:flag
read -p:people -s:flag -sp:people -rsp:people -rp:people
tctl,tsh,teleport --auth-server:plain --proxy:plain --user:plain
step --provisioner-password-file:plain --password-file:plain --kty:plain
irssi,weechat,ii,sic -w:secret -n:plain -c:plain -k:secret
register_new_matrix_user -p:secret -k:secret -u:plain -c:plain
gotify,ntfy -t:secret -u:user --token:secret
apprise,notify -t:people -b:people
grafana-cli,grafana-server --pluginUrl:plain
grafana-cli/admin/reset-admin-password,grafana/cli/admin/reset-admin-password #1:secret --user-id:plain
mimirtool,cortextool,logcli --key:secret --password:secret --username:plain
elasticsearch-users/useradd,elasticsearch-users/passwd -p:secret -r:plain
elasticsearch-certutil,elasticsearch-setup-passwords --pass:secret --ca-pass:secret
securityadmin.sh,hash.sh,plugin.sh -p:secret words
solr/auth -credentials:user words
zkCli.sh,zookeeper-shell -server:plain
airflow/users/create -p:secret -u:plain -e:plain -f:plain -l:plain -r:plain
airflow/tasks,airflow/dags,airflow/variables/get *:plain
wandb/login,comet/login,neptune/login,huggingface-cli/login,hf/auth/login,kaggle/config/set,replicate/login,railway/login,snyk/auth,planetscale/auth/login,hcloud/context/create,linear/auth,turso/auth/login,deta/login,fastly/profile/create,sentry-cli/login #1:guess
modal,hf,huggingface-cli --token:secret --token-secret:secret --token-id:plain
llm/keys/set --value:secret
llm,aichat,sgpt,fabric,mods -s:people --system:people -p:people -m:plain --key:plain
llama-cli,llama-server,ollama,whisper-cli,llama.cpp,main -p:people --prompt:people -m:plain --seed:plain -n:plain -t:plain -c:plain -s:plain --api-key:secret
claude,codex,gemini,opencode,cursor-agent,aider,goose,amp,crush -p:people --print:people -m:people --message:people -c:plain -s:plain
sst/secret/set #2:secret
eb/setenv *:pairs
sam,cdk,serverless,sls --parameter-overrides:pairs -c:pairs --param:pairs -e:plain
copilot/secret/init --values:assign -n:plain --name:plain
azd/env/set *:pairs
chamber/write #3:secret
chamber/read,chamber/list,chamber/delete,chamber/export,chamber/history *:plain
chamber/exec wraps
credstash/put #2:secret
credstash/get *:plain
consul-template,envconsul words -vault-token:secret -consul-token:secret
iscsiadm -p:plain -T:plain -n:nameof -v:valueof -m:plain -o:plain -t:plain -I:plain
hdparm words --security-set-pass:secret --security-unlock:secret --security-erase:secret --security-disable:secret
mokutil --generate-hash:secret --hash-file:plain
tpm2_unseal,tpm2_create,tpm2_createprimary,tpm2_load,tpm2_sign,tpm2_nvread,tpm2_nvwrite,tpm2_changeauth,tpm2_nvdefine,tpm2_import,tpm2_evictcontrol,tpm2_startauthsession -p:where -P:where -c:plain
pkcs11-tool,pkcs15-tool,pkcs15-init,pkcs15-crypt -p:secret --pin:secret --so-pin:secret --new-pin:secret --puk:secret --id:plain --label:plain
softhsm2-util,softhsm --pin:secret --so-pin:secret
p11tool,p11-kit --set-pin:secret --set-so-pin:secret
ykman,nitropy,solo2,fido2-token -P:secret -m:secret --pin:secret --management-key:secret -p:secret
ykman/oath/accounts/add #2:secret -o:plain -i:plain
ykman/oath/access/change -n:secret -p:secret
ykman/piv/access/change-pin,ykman/fido/access/change-pin -n:secret -P:secret
yubico-piv-tool,ykpersonalize -P:secret -N:secret -k:secret -n:secret -a:plain -s:plain -i:plain -o:plain
iwctl,connmanctl --passphrase:secret -P:secret
mmcli,qmicli,mbimcli --pin:secret --puk:secret
sstpc,pppd,pptp,wvdial password:secret user:plain
fs_cli -p:secret -P:plain -H:plain -x:code -u:plain
kamctl/add,kamctl/passwd,opensipsctl/add #2:secret
asterisk,rasterisk -x:code
vsql -w:secret -U:plain -c:code -h:plain -p:plain -d:plain
nzsql,nzload,nz_backup -pw:secret -u:plain -d:plain -c:code words
hdbsql,hdbuserstore -p:secret -u:plain -n:plain -d:plain -i:plain
isql-fb,gsec,gbak,gfix,fbsvcmgr words -password:secret -pass:secret -pas:secret -pw:secret -user:plain
asadm,aql,asbackup,asrestore -P:secret -U:plain -h:plain -p:plain
bteq,tdload,fastload,tbuild -p:secret -u:plain
dbaccess,onstat *:plain
flyway,liquibase,sqitch,dbmate words
goose,migrate,atlas,sqlx *:plain
spark-submit,spark-shell,pyspark,spark-sql,hadoop,hdfs,yarn,mapred,sqoop,flume-ng --conf:pairs -D:pairs -e:code
impala-shell,pgloader,sqlcmd.exe -u:plain -l:flag
docker-registry,reg,dive,regclient,registry -p:secret -u:plain
filebeat,metricbeat,logstash,heartbeat,auditbeat,elastic-agent -E:pairs -c:plain
elastic-agent/enroll,elastic-agent/install --enrollment-token:secret --fleet-server-service-token:secret
telegraf,vector,fluent-bit,fluentd,promtail,vmagent,vmalert,prometheus,thanos -p:pairs
datadog-agent,dd-agent,newrelic,newrelic-infra,dynatrace --api-key:secret --token:secret --apiKey:secret
mount.davfs,udisksctl,bcachefs,zfs,fscrypt -k:plain
hcloud,upctl,civo,ovh,gandi,namecheap,porkbun,cloudns --token:secret
civo/apikey/add #2:secret
exo,packet,metal,equinix -t:secret
scw/init,scw/config/set *:pairs
luks,systemd-cryptenroll,cryptenroll --unlock-key-file:plain
odoo,odoo-bin -w:secret -r:plain -d:plain -p:plain
wpscan --api-token:secret --passwords:plain -P:plain -U:plain --password-attack:plain
john,hashcat --wordlist:plain -w:plain -m:plain -a:plain -o:plain --format:plain
hashcat *:plain
kdialog,zenity,dialog,whiptail,yad,rofi,gum,systemd-ask-password,ssh-askpass --password:people --title:people --text:people --passwordbox:people --entry:flag *:people
pacman-key --lsign-key:plain --recv-key:plain -r:plain -u:plain *:plain
systemd-cryptenroll --password:flag --recovery-key:flag --pkcs11-token-uri:plain
driverquery,eventcreate,getmac,setx,systeminfo,tasklist,taskkill,gpresult,openfiles,waitfor,typeperf,logman,wevtutil,shutdown,wmic /p:secret /rp:secret /u:plain /s:plain
cryptcat,mupdf,stegsnow,airdecap-ng,openttd,zathura,evince -p:secret -e:plain -k:secret -n:plain -C:flag -m:plain -b:plain
openttd,cryptcat -p:likely
redis-benchmark -a:secret -p:plain -h:plain -n:plain
croc --code:secret --pass:secret
lwp-request -C:user
expose/token,zrok/enable,safe/auth,idevicebackup2/encryption/on,spark/register #1:secret
networksetup -setairportnetwork:plain #2:secret words
argon2,passage/insert,secrethub/write,passwd,elasticsearch-keystore,opensearch-keystore,logstash-keystore,kibana-keystore,bw/login reads
avrdude -U:plain
create_ap -m:plain --driver:plain #4:secret
xxh ++password:secret
steghide,outguess,stegseek,openstego -p:secret -k:secret -sf:plain -cf:plain -ef:plain -xf:plain words
exiftool,mat2 -password:secret words
unzip,zipinfo -P:secret
dar,afio,par2 -K:secret -J:secret
img2pdf,ocrmypdf,pdfjam,cpdf words -pw:secret -upw:secret -opw:secret
tesseract,gpgsm,gpgtar -p:plain
mkvmerge,vlc,cvlc,mpv,mplayer --rtsp-pwd:secret --sout-http-pwd:secret -passwd:secret --ftp-pwd:secret --smb-pwd:secret --http-password:secret words
rtmpdump,ffmpeg,ffprobe,ffplay words -decryption_key:secret -encryption_key:secret -pass:plain -cenc_decryption_key:secret -encryption_kid:plain -key:named -passlogfile:plain -metadata:plain -map:plain
mpc -P:secret
transmission-remote,transmission-daemon,deluge-console,qbittorrent-nox,rtorrent -n:user --auth:user -u:plain -v:secret
transmission-daemon -v:secret
deluge-console -P:secret -U:plain -u:plain -p:plain
smartctl,nut,upsc,upscmd,upsrw -p:secret -u:plain
snapcast,shairport-sync,squeezelite --password:secret
hass,hass-cli,esphome,platformio,tasmota --token:secret --password:secret
esptool.py,espsecure.py,avrdude -p:plain -P:plain -b:plain -c:plain
nvram,uci,ubus,fw_setenv *:pairs
uci/set *:pairs
routeros,sshpass2,rancid,netmiko-show,ansible-test -p:secret
rancid,clogin,jlogin,flogin -p:secret -u:plain -e:secret -v:secret
netconf-console,netconf-console2,gnmic,gnmi_cli,pygnmicli -p:secret -u:plain -a:plain --port:plain
netconf-console,netconf-console2 -p:secret --port:plain
snmpwalk.exe,braa -c:secret
radtest #2:secret #5:secret
radclient #3:secret
eapol_test,wpa_supplicant -s:secret -p:plain -a:plain -c:plain -i:plain
ldapvi,shelldap,ldapscripts -w:secret -D:plain -h:plain
keycloak,kc.sh,authelia,authentik --password:secret --secret:secret
authelia/crypto/hash/generate --password:secret
vaultwarden/hash,lldap *:plain
rails,rake,bin/rails,bundle/exec *:plain
manage.py looks
php/artisan looks
hydra-maester,ory,kratos --token:secret
conjur,akeyless,secretless,delinea,tss,dsv,pass-cli -p:secret -u:plain -i:plain --access-key:secret --password:secret
conjur/login -p:secret -i:plain
conjur/variable/set -v:secret -i:plain
akeyless/create-secret,akeyless/update-secret-val -v:secret -n:plain --value:secret
az/functionapp,az/webapp --settings:pairs
heroku/config:add *:pairs
rclone,restic --password-file:plain
lxc,incus,lxd --token:secret --password:secret
lxc/remote/add,incus/remote/add --password:secret --token:secret
multipass,colima,lima,limactl *:plain
vboxmanage,VBoxManage --password:secret --user:plain --name:plain
VBoxManage/guestcontrol,vboxmanage/guestcontrol --password:secret --username:plain --passwordfile:plain
prlctl,xe,xl,xen -pw:secret -u:plain words
`

func readTools(table string) map[string]*tool {
	top := &tool{subs: map[string]*tool{}}
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		for path := range strings.SplitSeq(fields[0], ",") {
			t := top
			for word := range strings.SplitSeq(path, "/") {
				sub := t.subs[word]
				if sub == nil {
					sub = &tool{options: map[string]kind{}}
					if t != top {
						sub.parent, sub.flags, sub.words, sub.looks, sub.slash = t, t.flags, t.words, t.looks, t.slash
					}
					if t.subs == nil {
						t.subs = map[string]*tool{}
					}
					t.subs[word] = sub
				}
				t = sub
			}
			for _, f := range fields[1:] {
				t.read(f)
			}
		}
	}
	return top.subs
}

func (t *tool) read(f string) {
	if flags, ok := strings.CutPrefix(f, "flags="); ok {
		t.flags = flags
		return
	}
	switch f {
	case "wraps":
		t.wraps = true
		return
	case "words":
		t.words = true
		return
	case "reads":
		t.reads = true
		return
	case "looks":
		t.looks = true
		return
	}
	colon := strings.LastIndexByte(f, ':')
	option := f[:colon]
	what, ok := kinds[f[colon+1:]]
	if !ok {
		panic(fmt.Sprintf("tool table: %q", f))
	}
	position, isPosition := strings.CutPrefix(option, "#")
	switch {
	case option == "*":
		t.every = what
	case isPosition:
		n, err := strconv.Atoi(position)
		if err != nil {
			panic(fmt.Sprintf("tool table: %q", f))
		}
		for len(t.args) < n {
			t.args = append(t.args, unknown)
		}
		t.args[n-1] = what
	default:
		t.options[option] = what
		t.slash = t.slash || option[0] == '/'
	}
}

// option gives the kind of an option's value; unknown if the table does not have it.
func (t *tool) option(name string) kind {
	for ; t != nil; t = t.parent {
		if k, ok := t.options[name]; ok {
			return k
		}
	}
	return unknown
}
