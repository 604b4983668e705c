"""What to say about an action that no rule speaks of, and what ATT&CK's techniques mean in plain words."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple


class Phrase(NamedTuple):
    """What an action of a line means, and what to do about it. Placeholders are ECS fields."""

    happened: str
    advice: tuple[str, ...]
    technique: str = ""


_ADDRESS = "See what else came from there: `grep -rF -- {source.ip} /var/log`, or the events page."
_ACCOUNT = (
    "See what the account did: `last -- {user.name}` and `journalctl _UID=$(id -u -- {user.name}) --since -1day`."
)
_ASK = "Ask {user.name} whether it was them; if not, lock the account: `usermod --lock -- {user.name}`."

#: event.action -> what to say.
ACTIONS = MappingProxyType(
    {
        "ssh_login_refused": Phrase(
            "sshd refused {user.name} from {source.ip} by its configuration",
            (_ADDRESS, "Check that nobody needs this access: `sshd -T | grep -iE 'allow|deny|permitroot'`."),
            "T1110",
        ),
        "ssh_max_attempts": Phrase(
            "{source.ip} gave more wrong passwords for {user.name} than one connection may",
            (_ADDRESS, "Allow keys only, if you can: `PasswordAuthentication no` in sshd_config."),
            "T1110",
        ),
        "login_refused": Phrase("a login of {user.name} from {source.ip} was refused", (_ADDRESS, _ACCOUNT), "T1078"),
        "account_locked": Phrase(
            "the account {user.name} was locked after too many wrong passwords",
            (_ADDRESS, "See the counter and reset it once it is clear who it was: `faillock --user {user.name}`."),
            "T1110",
        ),
        "su_login": Phrase("{user.name} tried to become another user on {host.name}", (_ASK, _ACCOUNT), "T1548"),
        "sudo_login": Phrase(
            "{user.name} gave wrong passwords to sudo on {host.name}",
            (_ASK, "See what they may do: `sudo -l -U {user.name}`."),
            "T1548.003",
        ),
        "sudo_denied": Phrase(
            "{user.name} ran a command through sudo that they may not run on {host.name}",
            (_ASK, "See what they may do: `sudo -l -U {user.name}`."),
            "T1548.003",
        ),
        "polkit_login": Phrase("{user.name} was not let through by polkit on {host.name}", (_ASK,), "T1548"),
        "user_added": Phrase(
            "a new account {user.name} was made on {host.name}",
            (
                "Find out who made it: `journalctl -t useradd -t sudo --since -1day`.",
                "If nobody did: `usermod --lock --expiredate 1 -- {user.name}` and look for its files: `find / -xdev -user {user.name}`.",
            ),
            "T1136.001",
        ),
        "group_member_added": Phrase(
            "an account was put into a group on {host.name}",
            ("See who is in it: `getent group {group.name}`.", _ASK),
            "T1098",
        ),
        "selinux_mode_changed": Phrase(
            "the mode of SELinux was changed on {host.name}",
            ("See the mode now: `getenforce`; set it back: `setenforce 1`.",),
            "T1562.001",
        ),
        "audit_configuration_changed": Phrase(
            "the rules of auditing were changed on {host.name}",
            ("Compare with what is meant: `auditctl -l` and `ls -l /etc/audit/rules.d`.",),
            "T1562.012",
        ),
        "audit_stopped": Phrase(
            "auditing was stopped on {host.name}",
            ("Start it again: `systemctl start auditd`; see who stopped it: `journalctl -u auditd --since -1day`.",),
            "T1562.012",
        ),
        "seccomp_violation": Phrase(
            "the kernel stopped a system call that {process.name} may not make on {host.name}",
            (
                "See what it is: `ausearch -m SECCOMP -ts today`.",
                "After an update this is often a missing permission of the sandbox; otherwise treat the process as taken over.",
            ),
            "T1203",
        ),
        "malware_found": Phrase(
            "a scanner found malware on {host.name}",
            (
                "Keep the file for evidence before it is removed: `sha256sum -- {file.path}`.",
                "Find out how it came there: `stat -- {file.path}`.",
                "Look at what happened around that time: `journalctl --since -1hour`.",
            ),
            "T1204.002",
        ),
        "database_attack": Phrase(
            "{source.ip} tried to misuse the database on {host.name}",
            (_ADDRESS, "The database should not answer strangers: `ss -ltnp`."),
            "T1190",
        ),
        "dns_rebind_attack": Phrase(
            "an answer of the name service pointed into the own network",
            ("See who asked for the name, and block it in the resolver.",),
            "T1557",
        ),
        "brute_force_detected": Phrase(
            "a program says that {source.ip} guesses passwords",
            (_ADDRESS, "Block it if it goes on: `nft add rule inet filter input ip saddr {source.ip} drop`."),
            "T1110",
        ),
        "ids_alert": Phrase(
            "intrusion detection speaks of {source.ip}: {rule.name}",
            (_ADDRESS, "Look at the traffic itself where it is kept; most such alerts are scans."),
            "T1190",
        ),
        "waf_alert": Phrase(
            "the web application firewall stopped or noted a request of {source.ip}",
            (_ADDRESS, "See which application was meant, and that it is up to date."),
            "T1190",
        ),
        "honeypot_command": Phrase(
            "{source.ip} ran a command in the honeypot",
            (
                "Nobody has business there: block the address everywhere else: `nft add rule inet filter input ip saddr {source.ip} drop`.",
            ),
            "T1059",
        ),
        "kernel_oops": Phrase(
            "the kernel of {host.name} met an error of its own",
            (
                "See what led to it: `journalctl -k -b --since -1hour`.",
                "Hardware and drivers are the usual reason; an exploit that failed looks the same.",
            ),
            "",
        ),
        "kernel_panic": Phrase(
            "the kernel of {host.name} stopped", ("See the boot before: `journalctl -k -b -1 -n 200`.",), ""
        ),
        "out_of_memory": Phrase(
            "{host.name} ran out of memory and the kernel ended a process",
            ("See who used it: `journalctl -k -g 'Out of memory' --since -1day` and `ps aux --sort=-rss`.",),
            "T1499",
        ),
        "syn_flood": Phrase(
            "{host.name} gets more connection requests than it answers",
            ("See from where: `ss -nt state syn-recv`.", "If it is not your visitors: limit it before the machine."),
            "T1498",
        ),
        "promiscuous_mode_entered": Phrase(
            "a network interface of {host.name} began to read all traffic",
            ("See who listens: `ss -0pb` and `ps aux`.", "Containers, bridges and tcpdump do this too."),
            "T1040",
        ),
    }
)
#: event.category -> what to say where the action has no phrase.
CATEGORIES = MappingProxyType(
    {
        "authentication": Phrase("a login on {host.name} did not go as usual", (_ADDRESS, _ACCOUNT)),
        "iam": Phrase("accounts or rights were changed on {host.name}", (_ASK,)),
        "network": Phrase("the network of {host.name} shows something unusual", (_ADDRESS,)),
        "web": Phrase("{source.ip} sent an unusual request", (_ADDRESS,)),
        "intrusion_detection": Phrase("a security program raised an alarm on {host.name}", (_ADDRESS,)),
        "malware": Phrase(
            "a scanner found malware on {host.name}", ("Find out how it came there before it is removed.",)
        ),
        "process": Phrase(
            "a process of {host.name} did something unusual",
            ("See its surroundings: `ps auxf` and `journalctl --since -1hour`.",),
        ),
        "configuration": Phrase(
            "the configuration of {host.name} was changed",
            ("Ask who changed it; if nobody did, compare with the last backup.",),
        ),
    }
)
ANYTHING = Phrase(
    "a program on {host.name} reports something that it finds serious itself",
    ("Read the lines around it: `journalctl --since -1hour -p warning`.",),
)

#: Technique -> what somebody does, in plain words. A sub-technique without a row has that of its technique.
TECHNIQUES = MappingProxyType(
    {
        "T1003": "copying password stores out of the system, to crack them elsewhere or use them at once",
        "T1005": "collecting files of a machine",
        "T1014": "hiding behind changed parts of the system itself (a rootkit)",
        "T1016": "finding out how the network is built",
        "T1018": "looking for other machines",
        "T1021": "moving from one machine to the next with ordinary remote access",
        "T1027": "making code unreadable, so that scanners and people overlook it",
        "T1036": "pretending to be something harmless",
        "T1040": "reading the traffic of others",
        "T1046": "trying many ports or services, to learn what runs there",
        "T1048": "carrying data away by a path that is not watched",
        "T1053": "leaving a scheduled job behind, which runs again after a restart",
        "T1055": "running code inside another process",
        "T1059": "running commands or scripts",
        "T1068": "using a flaw to gain more rights",
        "T1070": "removing traces: logs, histories, files",
        "T1071": "talking to a control server inside ordinary traffic",
        "T1078": "using real accounts, with passwords that were guessed, bought or found",
        "T1083": "looking through files and folders",
        "T1090": "hiding behind another machine",
        "T1098": "changing accounts or rights, so as to come back later",
        "T1105": "fetching tools from outside",
        "T1110": "guessing passwords",
        "T1110.001": "guessing passwords: many tries until one fits",
        "T1110.003": "guessing passwords: a few likely ones for very many accounts, so that none is locked",
        "T1111": "getting around the second factor",
        "T1133": "getting in by remote access that faces the internet",
        "T1136": "making an account of one's own",
        "T1189": "attacking visitors by way of a site",
        "T1190": "attacking a service that faces the internet by a flaw in it",
        "T1203": "attacking a program by data that it cannot bear",
        "T1204": "having somebody open a harmful file",
        "T1485": "destroying data",
        "T1486": "encrypting data for ransom",
        "T1490": "removing what a machine could be restored from",
        "T1496": "using the machine's power, mostly to mine coins",
        "T1498": "flooding the network until nothing else gets through",
        "T1499": "overloading a service until it answers nobody",
        "T1505": "leaving a back door in a server",
        "T1505.003": "leaving a script on a web server that runs any command for whoever knows its address (a web shell)",
        "T1528": "stealing tokens of applications",
        "T1543": "installing a service, which starts again after a restart",
        "T1547": "having something start with the machine",
        "T1548": "gaining root's rights by the means that lend them (sudo, su, setuid)",
        "T1552": "looking for passwords and keys that lie about in files",
        "T1556": "changing how logins are checked",
        "T1557": "standing between two machines that talk to each other",
        "T1558": "stealing or forging Kerberos tickets",
        "T1562": "switching off what protects or watches: firewall, scanner, logging",
        "T1566": "sending mail that deceives",
        "T1569": "running programs by way of system services",
        "T1571": "using unusual ports",
        "T1572": "hiding traffic inside other traffic",
        "T1574": "having a program load foreign code",
        "T1589": "finding out which accounts exist",
        "T1590": "finding out about a network from outside",
        "T1594": "reading a site in order to use what stands there",
        "T1595": "scanning: trying many addresses, paths or names to find what can be attacked",
        "T1609": "running commands in a container from outside",
        "T1610": "starting a container of one's own",
        "T1611": "breaking out of a container onto its host",
        "T1613": "looking around in a cluster",
        "T1621": "asking for the second factor until somebody gives in",
    }
)
