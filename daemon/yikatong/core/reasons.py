"""Why something did not happen: one list of reasons, one table of what each means and what to do next.

The reasons are a contract (docs/reasons.md is made from this table). `Moved` is the point of it: a status that
invites a retry may only stand where nothing was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Moved(Enum):
    """Whether money moved; `outcome` in the metadata of an error and in a transaction."""

    NOT_MOVED = "NOT_MOVED"
    MOVED = "MOVED"
    PENDING = "PENDING"


class Retry(Enum):
    """How the caller may go on."""

    NEW_REQUEST = "NEW_REQUEST"
    SAME_REQUEST = "SAME_REQUEST"
    NEVER = "NEVER"


class Status(Enum):
    """The gRPC status that carries a reason where it prevented a decision. DECLINED: none, it is a decision."""

    DECLINED = "DECLINED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


class Reason(Enum):
    """The public reason codes. Never renamed."""

    NO_CARD = "NO_CARD"
    CARD_REMOVED = "CARD_REMOVED"
    CARD_MUTE = "CARD_MUTE"
    CARD_CHANGED = "CARD_CHANGED"
    NOT_A_SOCIAL_SECURITY_CARD = "NOT_A_SOCIAL_SECURITY_CARD"
    CARD_EXPIRED = "CARD_EXPIRED"
    CARD_NOT_GENUINE = "CARD_NOT_GENUINE"
    CARD_MALFORMED = "CARD_MALFORMED"
    CARD_NEEDS_AUTHENTICATION = "CARD_NEEDS_AUTHENTICATION"
    CARD_AUTHENTICATION_REFUSED = "CARD_AUTHENTICATION_REFUSED"
    CARD_AUTHENTICATION_BLOCKED = "CARD_AUTHENTICATION_BLOCKED"
    CARD_ALGORITHM_UNSUPPORTED = "CARD_ALGORITHM_UNSUPPORTED"
    NO_PSAM = "NO_PSAM"
    PSAM_FAILED = "PSAM_FAILED"
    PSAM_UNSUITABLE = "PSAM_UNSUITABLE"
    HSM_UNAVAILABLE = "HSM_UNAVAILABLE"
    NO_CARD_KEY = "NO_CARD_KEY"
    TOO_MANY_AUTHENTICATIONS = "TOO_MANY_AUTHENTICATIONS"
    NO_READER = "NO_READER"
    READER_FAILED = "READER_FAILED"
    READER_FAILS_OFTEN = "READER_FAILS_OFTEN"
    CARD_BATCH_FAILS_OFTEN = "CARD_BATCH_FAILS_OFTEN"
    PCSCD_NOT_RUNNING = "PCSCD_NOT_RUNNING"
    PCSCD_REFUSED = "PCSCD_REFUSED"
    DEVICE_BUSY = "DEVICE_BUSY"
    NO_PIN_KEYPAD = "NO_PIN_KEYPAD"
    PIN_KEYPAD_FAILED = "PIN_KEYPAD_FAILED"
    PIN_WRONG = "PIN_WRONG"
    PIN_BLOCKED = "PIN_BLOCKED"
    PIN_CANCELLED = "PIN_CANCELLED"
    PIN_TIMEOUT = "PIN_TIMEOUT"
    PIN_LAST_TRY = "PIN_LAST_TRY"
    PIN_TOO_OFTEN = "PIN_TOO_OFTEN"
    PIN_TRY_UNCLEAR = "PIN_TRY_UNCLEAR"
    PIN_INITIAL = "PIN_INITIAL"
    NO_SCANNER = "NO_SCANNER"
    SCANNER_FAILED = "SCANNER_FAILED"
    SCAN_TIMEOUT = "SCAN_TIMEOUT"
    SCAN_UNREADABLE = "SCAN_UNREADABLE"
    NO_ID_CARD = "NO_ID_CARD"
    ID_CARD_MALFORMED = "ID_CARD_MALFORMED"
    NO_ID_CARD_READER = "NO_ID_CARD_READER"
    ID_CARD_READER_FAILED = "ID_CARD_READER_FAILED"
    ID_CARD_NOT_VALID = "ID_CARD_NOT_VALID"
    RESIDENT_ID_NOT_ACCEPTED = "RESIDENT_ID_NOT_ACCEPTED"
    VOUCHER_INVALID = "VOUCHER_INVALID"
    VOUCHER_EXPIRED = "VOUCHER_EXPIRED"
    VOUCHER_USED = "VOUCHER_USED"
    VOUCHER_NOT_ACCEPTED = "VOUCHER_NOT_ACCEPTED"
    VOUCHER_SERVICE_UNREACHABLE = "VOUCHER_SERVICE_UNREACHABLE"
    TOO_MANY_VOUCHERS = "TOO_MANY_VOUCHERS"
    NO_PRINTER = "NO_PRINTER"
    PRINTER_FAILED = "PRINTER_FAILED"
    PRINTER_OUT_OF_PAPER = "PRINTER_OUT_OF_PAPER"
    PRINTER_NOT_READY = "PRINTER_NOT_READY"
    NO_CUSTOMER_DISPLAY = "NO_CUSTOMER_DISPLAY"
    CUSTOMER_DISPLAY_FAILED = "CUSTOMER_DISPLAY_FAILED"
    CARD_REPORTED_LOST = "CARD_REPORTED_LOST"
    PERSON_NOT_INSURED = "PERSON_NOT_INSURED"
    NO_PERSONAL_ACCOUNT = "NO_PERSONAL_ACCOUNT"
    ACCOUNT_FROZEN = "ACCOUNT_FROZEN"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    CITY_NOT_OPEN = "CITY_NOT_OPEN"
    CITY_CLOSED_FOR_MAINTENANCE = "CITY_CLOSED_FOR_MAINTENANCE"
    INSTITUTION_UNKNOWN = "INSTITUTION_UNKNOWN"
    INSTITUTION_SUSPENDED = "INSTITUTION_SUSPENDED"
    INSTITUTION_TERMINATED = "INSTITUTION_TERMINATED"
    PRACTITIONER_SUSPENDED = "PRACTITIONER_SUSPENDED"
    TERMINAL_UNKNOWN = "TERMINAL_UNKNOWN"
    TERMINAL_SUPERSEDED = "TERMINAL_SUPERSEDED"
    CONFIRM_TOO_LATE = "CONFIRM_TOO_LATE"
    GATEWAY_UNREACHABLE = "GATEWAY_UNREACHABLE"
    CITY_UNREACHABLE = "CITY_UNREACHABLE"
    OUTCOME_PENDING = "OUTCOME_PENDING"
    NO_ANSWER_IN_TIME = "NO_ANSWER_IN_TIME"
    ANSWER_DOES_NOT_FIT = "ANSWER_DOES_NOT_FIT"
    CANCELLED_BY_CALLER = "CANCELLED_BY_CALLER"
    RECOVERED_AFTER_RESTART = "RECOVERED_AFTER_RESTART"
    NOT_CONFIRMED_IN_TIME = "NOT_CONFIRMED_IN_TIME"
    ORDER_IN_PROGRESS = "ORDER_IN_PROGRESS"
    ORDER_ALREADY_PAID = "ORDER_ALREADY_PAID"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    TRANSACTION_ID_REUSED = "TRANSACTION_ID_REUSED"
    TRANSACTION_NOT_FOUND = "TRANSACTION_NOT_FOUND"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    REFUND_EXCEEDS_DEBIT = "REFUND_EXCEEDS_DEBIT"
    NEEDS_OPERATOR = "NEEDS_OPERATOR"
    UPHELD_BY_OPERATORS = "UPHELD_BY_OPERATORS"
    REVERSED_BY_OPERATORS = "REVERSED_BY_OPERATORS"
    SECOND_PERSON_NEEDED = "SECOND_PERSON_NEEDED"
    DECISION_DIFFERS = "DECISION_DIFFERS"
    NOT_DECIDABLE = "NOT_DECIDABLE"
    TERMINAL_REPLACED = "TERMINAL_REPLACED"
    TOO_MANY_UNRESOLVED = "TOO_MANY_UNRESOLVED"
    JOURNAL_UNAVAILABLE = "JOURNAL_UNAVAILABLE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    STORE_NOT_OURS = "STORE_NOT_OURS"
    NOT_SIGNED_IN = "NOT_SIGNED_IN"
    INVALID_FIELD = "INVALID_FIELD"
    CONFIGURATION_INVALID = "CONFIGURATION_INVALID"
    NOT_ALLOWED = "NOT_ALLOWED"
    CERTIFICATE_INVALID = "CERTIFICATE_INVALID"
    CLOCK_WRONG = "CLOCK_WRONG"
    SELF_TEST_FAILED = "SELF_TEST_FAILED"
    SELF_TEST_OVERDUE = "SELF_TEST_OVERDUE"
    DAEMON_UNREACHABLE = "DAEMON_UNREACHABLE"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means to a program (status, moved, retry) and to a person (sentence and next step, zh and en)."""

    status: Status
    moved: Moved
    retry: Retry
    zh: str
    en: str
    next_zh: str
    next_en: str


def _declined(zh: str, en: str, next_zh: str, next_en: str) -> Meaning:
    return Meaning(Status.DECLINED, Moved.NOT_MOVED, Retry.NEW_REQUEST, zh, en, next_zh, next_en)


def _before(
    zh: str, en: str, next_zh: str, next_en: str, *, status: Status = Status.FAILED_PRECONDITION
) -> Meaning:  # nothing was sent, nothing was recorded: the same request may come again
    return Meaning(status, Moved.NOT_MOVED, Retry.SAME_REQUEST, zh, en, next_zh, next_en)


def _never(status: Status, zh: str, en: str, next_zh: str, next_en: str) -> Meaning:
    return Meaning(status, Moved.NOT_MOVED, Retry.NEVER, zh, en, next_zh, next_en)


_CASH: Final = ("可改用现金或其他方式支付。", "Take another means of payment.")
_CALL: Final = ("请拨打故障热线。", "Call the fault hotline.")

MEANING: Final[dict[Reason, Meaning]] = {
    Reason.NO_CARD: _before("读卡器中没有卡。", "There is no card in the reader.", "请插入社会保障卡后重试。", "Insert the card and try again."),
    Reason.CARD_REMOVED: _before("读卡过程中卡被取出。", "The card was removed while it was read.", "请重新插卡，交易结束前不要取出。", "Insert it again and leave it in until the end."),
    Reason.CARD_MUTE: _before("卡无应答。", "The card does not answer.", "请擦拭芯片后重新插入，或换一个读卡器。", "Wipe the chip, insert it again, or try another reader."),
    Reason.CARD_CHANGED: _before("交易过程中换了卡。", "Another card was put in during the transaction.", "请用同一张卡重新开始。", "Start again with one card."),
    Reason.NOT_A_SOCIAL_SECURITY_CARD: _before("这不是社会保障卡。", "This is not a social security card.", "请插入社会保障卡。", "Insert a social security card."),
    Reason.CARD_EXPIRED: _before("卡已过有效期。", "The card has expired.", "请持卡人到发卡地换卡。", "The cardholder needs a new card from the issuer."),
    Reason.CARD_NOT_GENUINE: _before("卡认证未通过。", "The card failed its authentication.", "请勿继续交易，并拨打故障热线。", "Do not go on; call the fault hotline."),
    Reason.CARD_MALFORMED: _before("卡内数据不符合规范。", "The card's data break the specification.", "请重新插卡；仍然失败时请到发卡地检测此卡。", "Insert it again; if it fails again the issuer must check the card."),
    Reason.CARD_NEEDS_AUTHENTICATION: _before("此卡须先认证才能读取，本终端没有所需的认证。", "This card must be authenticated before it can be read, and this terminal has not what that takes.", "请到能认证第三代卡的窗口办理；维护人员见终端手册“卡认证”。", "Use a window that authenticates third-generation cards; technicians: the manual of the terminal, card authentication."),
    Reason.CARD_AUTHENTICATION_REFUSED: _never(Status.FAILED_PRECONDITION, "卡不接受本终端的认证。", "The card does not accept this terminal.", "请勿重复插卡：每次会减少卡的认证次数；请到其他窗口办理，并拨打故障热线检查 PSAM 或密钥。", "Do not insert it again: each time costs one of its tries. Use another window, and call the fault hotline: PSAM or keys must be checked."),
    Reason.CARD_AUTHENTICATION_BLOCKED: _never(Status.FAILED_PRECONDITION, "卡的认证密钥已锁定。", "The card has blocked the key that terminals prove themselves by.", "请持卡人到发卡地处理；可改用现金支付。", "The cardholder must go to the issuer; take another means of payment."),
    Reason.CARD_ALGORITHM_UNSUPPORTED: _before("不支持此卡的密码算法。", "The card's cipher is not supported.", "请到发卡地的窗口办理；可改用现金支付。", "Use a window in the city that issued it; take another means of payment."),
    Reason.NO_PSAM: _before("终端中没有 PSAM 卡。", "There is no PSAM in the terminal.", "请插好 PSAM 卡，检查其读卡器；运行 yikatong doctor。", "Insert the PSAM, check its reader; run yikatong doctor.", status=Status.UNAVAILABLE),
    Reason.PSAM_FAILED: _before("PSAM 卡故障。", "The PSAM failed.", "请重新插好 PSAM 卡；仍然失败时请更换 PSAM 并拨打故障热线。", "Reseat the PSAM; if it fails again replace it and call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.PSAM_UNSUITABLE: _before("PSAM 卡不适用：不是本地社保 PSAM，或缺少所需密钥，或尚未授权。", "The PSAM is not the right one: of another kind, without the key that is needed, or not authorised yet.", "请换上经办机构发放并已授权的 PSAM，核对 psam_key；请拨打故障热线。", "Put in the PSAM that the agency handed out and authorised, check psam_key; call the fault hotline."),
    Reason.HSM_UNAVAILABLE: _before("网关的加密机不可用，无法认证此卡。", "The gateway's security module is not available; the card can't be authenticated.", "请稍后再试，或到其他窗口办理；请拨打故障热线。", "Try again later or use another window; call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.NO_CARD_KEY: _before("网关没有此卡发卡地的认证密钥。", "The gateway has no key for cards of this issuer.", "请到发卡地的窗口办理，或改用现金支付；可拨打政策热线咨询。", "Use a window in the city that issued it, or take another means of payment; ask the policy hotline."),
    Reason.TOO_MANY_AUTHENTICATIONS: _before("本终端的卡认证过于频繁。", "This terminal asks for too many card authentications.", "请等一分钟再试；反复出现时请拨打故障热线。", "Wait a minute and try again; if it happens again and again call the fault hotline.", status=Status.RESOURCE_EXHAUSTED),
    Reason.NO_READER: _before("找不到读卡器。", "No card reader was found.", "请检查读卡器连线；运行 yikatong doctor。", "Check the reader's cable; run yikatong doctor.", status=Status.UNAVAILABLE),
    Reason.READER_FAILED: _before("读卡器故障。", "The card reader failed.", "请重新插拔读卡器；仍然失败时请拨打故障热线。", "Unplug and replug the reader; if it fails again call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.READER_FAILS_OFTEN: _before("读卡器读卡失败偏多。", "The reader fails on too many cards.", "请确认插卡方向有标示，并清洁读卡槽和触点；仍然偏多时更换读卡器。", "See that it is marked which way cards go in, and clean the slot and its contacts; if it goes on, replace the reader."),
    Reason.CARD_BATCH_FAILS_OFTEN: _before("某一批卡读卡失败偏多。", "Cards of one batch fail too often.", "其他卡正常，不必更换读卡器；请把批次报告故障热线，由发卡机构检测。", "Other cards are read well: keep the reader, and tell the fault hotline which batch, for its issuer to check."),
    Reason.PCSCD_NOT_RUNNING: _before("智能卡服务 pcscd 没有运行。", "The smart card service pcscd is not running.", "请运行 systemctl restart pcscd；仍然失败时拨打故障热线。", "Run systemctl restart pcscd; if it fails again call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.PCSCD_REFUSED: _before("智能卡服务 pcscd 拒绝了本程序（polkit）。", "The smart card service pcscd refuses this program (polkit).", "请安装 /usr/share/polkit-1/rules.d/50-yikatong.rules；仍然失败时拨打故障热线。", "Install /usr/share/polkit-1/rules.d/50-yikatong.rules; if it fails again call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.DEVICE_BUSY: _before("设备正忙。", "The device is busy.", "请等当前操作结束后重试。", "Wait for the present operation and try again.", status=Status.UNAVAILABLE),
    Reason.NO_PIN_KEYPAD: _before("找不到密码键盘。", "No PIN keypad was found.", "请检查密码键盘连线；用电脑键盘输入时请运行 yikatong pin。", "Check the keypad's cable; where PINs are typed on a computer run yikatong pin.", status=Status.UNAVAILABLE),
    Reason.PIN_KEYPAD_FAILED: _before("密码键盘故障。", "The PIN keypad failed.", "请重新插拔密码键盘；仍然失败时请拨打故障热线。", "Unplug and replug the keypad; if it fails again call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.PIN_WRONG: _before("社会保障卡密码错误。", "The social security PIN is wrong.", "请持卡人核对密码后重试；连续错误会锁卡。", "Let the cardholder think again; further errors block the card."),
    Reason.PIN_BLOCKED: _before("社会保障卡密码已锁定。", "The social security PIN is blocked.", "请持卡人到发卡地重置密码。", "The cardholder must have it reset by the issuer."),
    Reason.PIN_CANCELLED: _before("持卡人取消了密码输入。", "The cardholder cancelled the PIN entry.", "未扣款，可重新开始。", "Nothing was debited; start again if wanted."),
    Reason.PIN_TIMEOUT: _before("密码输入超时。", "No PIN was entered in time.", "未扣款，可重新开始。", "Nothing was debited; start again if wanted."),
    Reason.PIN_LAST_TRY: Meaning(Status.FAILED_PRECONDITION, Moved.NOT_MOVED, Retry.NEW_REQUEST, "社会保障卡密码可能只剩最后一次机会，再错就会锁卡。", "The social security PIN may have one try left; another error blocks the card.", "请先问持卡人是否记得密码；确认要试时由收费员确认后重新收费，否则改用其他方式支付。", "Ask the cardholder first; charge again with the cashier's confirmation, or take another means of payment."),
    Reason.PIN_TOO_OFTEN: _before("密码错误次数过多，暂停输入密码。", "Too many PINs have failed; none is asked for now.", "请最多等候 10 分钟再试，或改用其他方式支付。", "Wait ten minutes at most, or take another means of payment.", status=Status.RESOURCE_EXHAUSTED),
    Reason.PIN_TRY_UNCLEAR: _before("密码已送往社会保障卡，但没有得到明确答复；可能已计为一次错误。", "The PIN went to the card and no clear answer came; it may have cost a try.", "未扣款；请重新插卡。下次输入前请持卡人确认记得密码。", "Nothing was debited; insert the card again, and let the cardholder be sure of the PIN before the next try."),
    Reason.PIN_INITIAL: _before("社会保障卡密码仍是初始密码。", "The social security PIN is still the one that the issuer gave out.", "请持卡人尽快到发卡地或自助终端修改密码。", "The cardholder should change it soon, at the issuer or a self-service terminal."),
    Reason.NO_SCANNER: _before("找不到扫码器。", "No code scanner was found.", "请检查扫码器连线，并确认它设为串口（CDC）模式而非键盘模式。", "Check its cable, and that it is set to serial (CDC) and not to keyboard mode.", status=Status.UNAVAILABLE),
    Reason.SCANNER_FAILED: _before("扫码器故障。", "The code scanner failed.", "请重新插拔扫码器；仍然失败时请拨打故障热线。", "Unplug and replug the scanner; if it fails again call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.SCAN_TIMEOUT: _before("未在规定时间内扫到二维码。", "No code was scanned in time.", "未扣款，可重新开始。", "Nothing was debited; start again if wanted."),
    Reason.SCAN_UNREADABLE: _before("扫到的不是一个完整的二维码。", "What was scanned is not one whole code.", "请只出示一个医保电子凭证二维码，重新扫描。", "Present one e-voucher code and scan again."),
    Reason.NO_ID_CARD: _before("没有读到居民身份证。", "No resident identity card was read.", "请把身份证拿开后重新放到感应区，读完前不要移动。", "Lift the card, lay it on the reader again and leave it there until it has been read."),
    Reason.ID_CARD_MALFORMED: _before("身份证内容不符合规范。", "The identity card's data break the specification.", "请重新放置；仍然失败时请改用社会保障卡。", "Lay it again; if it fails again use the social security card."),
    Reason.NO_ID_CARD_READER: _before("找不到身份证阅读器。", "No reader of identity cards was found.", "请检查身份证阅读器连线。", "Check the reader's cable.", status=Status.UNAVAILABLE),
    Reason.ID_CARD_READER_FAILED: _before("身份证阅读器故障。", "The reader of identity cards failed.", "请重新插拔身份证阅读器；仍然失败时请拨打故障热线。", "Unplug and replug the reader; if it fails again call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.ID_CARD_NOT_VALID: _before("居民身份证不在有效期内。", "The resident identity card is not valid today.", "请改用社会保障卡或医保电子凭证。", "Use the social security card or the e-voucher."),
    Reason.RESIDENT_ID_NOT_ACCEPTED: _declined("参保地不受理居民身份证支付。", "The home city takes no payment by resident identity card.", "请改用社会保障卡或医保电子凭证。", "Use the social security card or the e-voucher."),
    Reason.VOUCHER_INVALID: _declined("医保电子凭证二维码无效。", "The e-voucher's code is not valid.", "请确认出示的是医保电子凭证，刷新二维码后重新收费；可改用社会保障卡。", "See that it is an e-voucher, renew the code and charge again; or use the social security card."),
    Reason.VOUCHER_EXPIRED: _declined("医保电子凭证二维码已过期。", "The e-voucher's code has expired.", "请刷新二维码后重新收费。", "Renew the code and charge again."),
    Reason.VOUCHER_USED: _declined("医保电子凭证二维码已使用过。", "The e-voucher's code has been used.", "本笔未扣款；请先核对上一笔的结果，确需再次收费时请刷新二维码。", "Nothing was debited this time; look how the earlier payment ended, and renew the code where another one is due."),
    Reason.VOUCHER_NOT_ACCEPTED: _declined("此处不受理医保电子凭证。", "E-vouchers are not taken here.", "请改用社会保障卡。", "Use the social security card."),
    Reason.VOUCHER_SERVICE_UNREACHABLE: _before("医保电子凭证服务没有应答。", "The e-voucher service does not answer.", "请刷新二维码后再试，或改用社会保障卡。", "Renew the code and try again, or use the social security card.", status=Status.UNAVAILABLE),
    Reason.TOO_MANY_VOUCHERS: _before("本终端核验医保电子凭证过于频繁。", "This terminal asks about too many e-vouchers.", "请等一分钟再试；反复出现时请拨打故障热线。", "Wait a minute and try again; if it happens again and again call the fault hotline.", status=Status.RESOURCE_EXHAUSTED),
    Reason.NO_PRINTER: _before("找不到凭条打印机。", "No receipt printer was found.", "请检查打印机电源和连线；交易不受影响，可稍后补打。", "Check its power and cable; transactions go on, the receipt can be printed later.", status=Status.UNAVAILABLE),
    Reason.PRINTER_FAILED: _before("凭条打印机故障。", "The receipt printer failed.", "请关闭再打开打印机后补打；交易不受影响。", "Switch it off and on and print the receipt again; transactions go on.", status=Status.UNAVAILABLE),
    Reason.PRINTER_OUT_OF_PAPER: _before("凭条打印机缺纸。", "The receipt printer is out of paper.", "请换纸后补打；交易不受影响。", "Put in a new roll and print the receipt again; transactions go on."),
    Reason.PRINTER_NOT_READY: _before("凭条打印机未就绪。", "The receipt printer is not ready.", "请合上机盖、按联机键后补打；交易不受影响。", "Close its cover, press its online key and print the receipt again; transactions go on."),
    Reason.NO_CUSTOMER_DISPLAY: _before("找不到顾客显示屏。", "No customer display was found.", "请检查顾客显示屏连线；交易不受影响。", "Check its cable; transactions go on.", status=Status.UNAVAILABLE),
    Reason.CUSTOMER_DISPLAY_FAILED: _before("顾客显示屏故障。", "The customer display failed.", "请重新插拔顾客显示屏；交易不受影响。", "Unplug and replug it; transactions go on.", status=Status.UNAVAILABLE),
    Reason.CARD_REPORTED_LOST: _declined("此卡已挂失。", "This card has been reported lost.", "请拨打政策热线；可改用现金支付。", "Call the policy hotline; take another means of payment."),
    Reason.PERSON_NOT_INSURED: _declined("未查到参保信息。", "No insurance is on record for this person.", "请拨打政策热线核实参保地。", "Call the policy hotline to find the home region."),
    Reason.NO_PERSONAL_ACCOUNT: _declined("参保人没有个人账户。", "This person has no personal account.", "居民医保一般没有个人账户；可改用现金支付。", "Residents' insurance usually has none; take another means of payment."),
    Reason.ACCOUNT_FROZEN: _declined("个人账户已冻结。", "The personal account is frozen.", "请持卡人联系参保地经办机构。", "The cardholder must ask the home city's agency."),
    Reason.INSUFFICIENT_BALANCE: _declined("个人账户余额不足。", "The balance of the personal account is too low.", *_CASH),
    Reason.LIMIT_EXCEEDED: _declined("超过交易限额。", "The amount exceeds the limit.", *_CASH),
    Reason.CITY_NOT_OPEN: _declined("参保地尚未开通异地扣款。", "The home city has not opened this service.", *_CASH),
    Reason.CITY_CLOSED_FOR_MAINTENANCE: _declined("参保地系统维护中。", "The home city is closed for maintenance.", "请稍后再试，或改用现金支付。", "Try again later, or take another means of payment."),
    Reason.INSTITUTION_UNKNOWN: _declined("机构未登记。", "The institution is not registered.", *_CALL),
    Reason.INSTITUTION_SUSPENDED: _declined("本机构的定点协议已暂停。", "The agreement with this institution is suspended.", "请联系经办机构；可改用现金支付。", "Ask the agency; take another means of payment."),
    Reason.INSTITUTION_TERMINATED: _declined("本机构的定点协议已解除。", "The agreement with this institution is terminated.", "请联系经办机构；可改用现金支付。", "Ask the agency; take another means of payment."),
    Reason.PRACTITIONER_SUSPENDED: _declined("该医师或药师已被暂停服务资格。", "This practitioner is suspended.", "请由其他医师或药师办理。", "Another practitioner must act."),
    Reason.TERMINAL_UNKNOWN: _never(Status.PERMISSION_DENIED, "网关不认识本终端。", "The gateway does not know this terminal.", *_CALL),
    Reason.TERMINAL_SUPERSEDED: _never(Status.PERMISSION_DENIED, "本终端的身份已由另一台机器使用。", "Another machine has taken over this terminal's identity.", "请停用本机并拨打故障热线；未决的交易由网关操作员决定，请勿重复收费。", "Stop using this machine and call the fault hotline; what is open here operators decide, so do not charge again."),
    Reason.CONFIRM_TOO_LATE: _never(Status.FAILED_PRECONDITION, "确认已超时，该笔扣款正在冲正或已冲正。", "The confirmation came too late; the debit is being or has been reversed.", "请在 HIS 中撤销该笔记账；需要时重新收费。", "Undo the booking in the HIS; charge again if needed."),
    Reason.GATEWAY_UNREACHABLE: _before("无法连接网关，未发送任何交易。", "The gateway can't be reached; nothing was sent.", "请检查网络；可改用现金支付。", "Check the network; take another means of payment.", status=Status.UNAVAILABLE),
    Reason.CITY_UNREACHABLE: _declined("参保地系统无应答，未扣款。", "The home city does not answer; nothing was debited.", "请稍后再试，或改用现金支付。", "Try again later, or take another means of payment."),
    Reason.OUTCOME_PENDING: Meaning(Status.DECLINED, Moved.PENDING, Retry.NEVER, "交易结果正在核实。", "The outcome is being settled.", "请勿重复收费；用同一请求号查询结果。", "Do not charge again; ask for the outcome with the same request id."),
    Reason.NO_ANSWER_IN_TIME: _declined("未在规定时间内得到应答，已自动冲正。", "No answer came in time; the debit is reversed.", "未扣款；可重新收费或改收现金。", "No money is taken; charge again, or take cash."),
    Reason.ANSWER_DOES_NOT_FIT: _declined("应答与请求不符，已自动冲正。", "The answer did not fit the request; the debit is reversed.", "未扣款；请拨打故障热线。", "No money is taken; call the fault hotline."),
    Reason.CANCELLED_BY_CALLER: _declined("收费系统中途取消，已自动冲正。", "The caller left or cancelled; the debit is reversed.", "未扣款；可重新收费。", "No money is taken; charge again if wanted."),
    Reason.RECOVERED_AFTER_RESTART: _declined("终端重启，未完成的交易已自动冲正。", "The terminal restarted; the unfinished debit is reversed.", "未扣款；可重新收费。", "No money is taken; charge again if wanted."),
    Reason.NOT_CONFIRMED_IN_TIME: _declined("收费系统未按时确认，已自动冲正。", "The HIS did not confirm in time; the debit is reversed.", "未扣款；可重新收费。", "No money is taken; charge again if wanted."),
    Reason.ORDER_IN_PROGRESS: Meaning(Status.FAILED_PRECONDITION, Moved.PENDING, Retry.NEVER, "该单据有一笔交易正在处理。", "A transaction for this order is in progress.", "请等待其结果，不要重复收费。", "Wait for its outcome; do not charge again."),
    Reason.ORDER_ALREADY_PAID: Meaning(Status.FAILED_PRECONDITION, Moved.MOVED, Retry.NEVER, "该单据已支付。", "This order is already paid.", "请打印已有交易的凭条，不要重复收费。", "Print the receipt of the existing transaction; do not charge again."),
    Reason.REQUEST_ID_REUSED: _never(Status.ALREADY_EXISTS, "同一请求号的内容不同。", "The same request id came with other content.", "请联系 HIS 厂商：每笔新交易须用新的请求号。", "Tell the HIS vendor: every new transaction needs a new request id."),
    Reason.TRANSACTION_ID_REUSED: _declined("交易号重复且内容不同，未执行。", "The transaction id came again with other content; nothing was executed.", *_CALL),
    Reason.TRANSACTION_NOT_FOUND: _never(Status.NOT_FOUND, "查不到这笔交易的记录。", "There is no record of this transaction.", "请核对交易号、请求号或单据号；没有得到答复的请求，用同一请求号再发一次。", "Check the transaction id, request id or order number; a request that got no answer is sent once more with the same request id."),
    Reason.ALREADY_REVERSED: _declined("该笔交易已冲正。", "The transaction was reversed.", "未扣款；可重新收费。", "No money is taken; charge again if wanted."),
    Reason.NOT_CANCELLABLE: _declined("该笔扣款不能撤销。", "The debit can not be cancelled.", "隔日、已退费或已撤销的扣款不能撤销；可改办退费。", "A debit of an earlier accounting date, or one that was refunded or cancelled, can not; refund what is left."),
    Reason.REFUND_EXCEEDS_DEBIT: _declined("退费金额超过可退余额。", "The refund exceeds what is left of the debit.", "请查询该笔扣款的可退金额后重新办理。", "Look up what is still refundable, then refund no more than that."),
    Reason.NEEDS_OPERATOR: Meaning(Status.FAILED_PRECONDITION, Moved.PENDING, Retry.NEVER, "该笔交易需要人工核实。", "An operator must decide this transaction.", "请拨打故障热线，不要重复收费。", "Call the fault hotline; do not charge again."),
    Reason.UPHELD_BY_OPERATORS: Meaning(Status.FAILED_PRECONDITION, Moved.MOVED, Retry.NEVER, "经两名操作员核定，该笔扣款成立。", "Two operators have decided that the debit stands.", "已收费；请勿再收。", "It is paid; do not charge again."),
    Reason.REVERSED_BY_OPERATORS: _declined("经两名操作员核定，该笔扣款已退回。", "Two operators have decided that the debit is undone; the money is back.", "未扣款；可重新收费。", "No money is taken; charge again if wanted."),
    Reason.SECOND_PERSON_NEEDED: Meaning(Status.PERMISSION_DENIED, Moved.PENDING, Retry.NEVER, "须由另一名操作员复核。", "Another operator must approve it.", "请由持另一张操作员证书的人员以相同决定复核。", "Let somebody with another operator certificate approve the same decision."),
    Reason.DECISION_DIFFERS: Meaning(Status.FAILED_PRECONDITION, Moved.PENDING, Retry.NEVER, "与已提出的决定不同，未执行。", "The decision differs from the one that was proposed; nothing was done.", "请两人核对；需要时先撤回（withdraw）已提出的决定。", "Compare notes; if need be withdraw the proposal first."),
    Reason.TERMINAL_REPLACED: Meaning(Status.FAILED_PRECONDITION, Moved.PENDING, Retry.NEVER, "终端已更换，这笔扣款还没有确认。", "The terminal was replaced before this debit was confirmed.", "请按收费系统的订单核实后由两人决定：yikatong ops resolve。", "Look at the order in the HIS; then two persons decide: yikatong ops resolve."),
    Reason.NOT_DECIDABLE: Meaning(Status.FAILED_PRECONDITION, Moved.PENDING, Retry.NEVER, "不能作此决定。", "This can not be decided.", "请按所述原因核对。", "Look into what it says is in the way."),
    Reason.TOO_MANY_UNRESOLVED: _before("未决交易过多或超过一天，暂停扣款。", "Too many transactions are open, or one for more than a day; no new debit is taken.", "请检查网络；运行 yikatong doctor。", "Check the network; run yikatong doctor."),
    Reason.JOURNAL_UNAVAILABLE: _before("终端流水不可用，停止扣款。", "The terminal's journal is not available; no money may move.", "请检查磁盘空间；运行 yikatong doctor 并拨打故障热线。", "Check the disk; run yikatong doctor and call the fault hotline.", status=Status.UNAVAILABLE),
    Reason.STORE_UNAVAILABLE: _before("网关数据库不可用。", "The gateway's database is not available.", *_CALL, status=Status.UNAVAILABLE),
    Reason.STORE_NOT_OURS: _never(Status.FAILED_PRECONDITION, "数据文件属于其他程序或其他版本。", "The data file belongs to another program or another version.", "请装回写入它的版本；不要删除该文件，并拨打故障热线。", "Install the version that wrote it again; do not delete the file, and call the fault hotline."),
    Reason.NOT_SIGNED_IN: _before("终端尚未签到。", "The terminal has not signed in.", "请等待自动签到；仍未成功时运行 yikatong doctor。", "Wait for the sign-in; if it does not come run yikatong doctor.", status=Status.UNAVAILABLE),
    Reason.INVALID_FIELD: Meaning(Status.INVALID_ARGUMENT, Moved.NOT_MOVED, Retry.NEW_REQUEST, "字段不符合要求。", "A field is not valid.", "请按错误详情改正该字段，再用新的请求号发送。", "Correct the field that the details name, and send a new request."),
    Reason.CONFIGURATION_INVALID: _never(Status.FAILED_PRECONDITION, "配置文件有错误。", "The configuration is not valid.", "请运行 yikatong check-config 并改正。", "Run yikatong check-config and correct it."),
    Reason.NOT_ALLOWED: _never(Status.PERMISSION_DENIED, "不允许此操作。", "This is not allowed.", "请检查配置和角色。", "Check configuration and role."),
    Reason.CERTIFICATE_INVALID: _before("终端证书无效或已过期。", "The terminal's certificate is not valid or has expired.", "请更新终端证书。", "Renew the terminal's certificate.", status=Status.UNAVAILABLE),
    Reason.CLOCK_WRONG: _before("终端时钟不准。", "The terminal's clock is wrong.", "请校准系统时间。", "Set the system's time."),
    Reason.SELF_TEST_FAILED: _before("自检未通过。", "The self-test failed.", "请运行 yikatong doctor 并按提示处理。", "Run yikatong doctor and do what it says."),
    Reason.SELF_TEST_OVERDUE: _before("超过一周未自检。", "The weekly self-test is overdue.", "请运行 yikatong selftest。", "Run yikatong selftest."),
    Reason.DAEMON_UNREACHABLE: _before("终端守护进程没有应答。", "The terminal's daemon does not answer.", "请运行 systemctl start yikatong-daemon；仍然失败时运行 yikatong doctor。", "Run systemctl start yikatong-daemon; if that fails run yikatong doctor.", status=Status.UNAVAILABLE),
    Reason.INTERNAL: Meaning(Status.INTERNAL, Moved.PENDING, Retry.SAME_REQUEST, "程序内部错误。", "An internal error.", "请用同一请求号查询结果，并拨打故障热线。", "Ask for the outcome with the same request id, and call the fault hotline."),
}  # fmt: skip


class YikatongError(Exception):
    """The one error of the project: a reason and facts about it.

    `facts` are plain strings and numbers without personal data: they go to the caller and into the log as they are.
    """

    def __init__(self, reason: Reason, detail: str = "", **facts: str | int) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.facts = facts

    @property
    def meaning(self) -> Meaning:
        return MEANING[self.reason]
