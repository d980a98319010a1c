// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {IUpdateLedger} from "../../contracts/interfaces/IUpdateLedger.sol";
import {ForgeTest} from "./Forge.sol";
import {ReferenceTree} from "./ReferenceTree.sol";
import {Registries} from "./Registries.sol";

/// @title Cheat codes of Foundry that only these tests use
interface VmLedger {
    /// @notice Expects the next call to emit the event emitted next here, with equal topics and data, from `emitter`.
    function expectEmit(address emitter) external;

    /// @notice Lets a contract answer all calls whose data begin with `data`.
    function mockCall(address callee, bytes calldata data, bytes calldata answer) external;

    /// @notice Ends all mocked answers.
    function clearMockedCalls() external;
}

/// @title Single calls of UpdateLedger with any values
contract UpdateLedgerFuzz is ForgeTest {
    VmLedger private constant MORE = VmLedger(address(vm));
    bytes16 private constant SITE = "site";
    bytes16 private constant CITY = "city";
    address private constant GATEWAY = address(0x6A7E);
    address private constant ADMINISTRATOR = address(0xAD);
    bytes32 private constant RELEASE = keccak256("release");
    uint64 private constant DEVICE = 256;

    Registries private _registries;
    IUpdateLedger private _ledger;
    bytes[] private _entries;
    bytes32[] private _leaves;
    uint64 private _size;

    function setUp() external {
        vm.warp(1_700_000_000);
        _registries = new Registries();
        bytes memory arguments = abi.encode(address(_registries), address(_registries));
        _ledger = IUpdateLedger(_deploy("UpdateLedger", arguments));
        _registries.setAccount(SITE, IIdentityRegistry.Kind.Gateway, GATEWAY);
        _registries.setAccount(CITY, IIdentityRegistry.Kind.Administrator, ADMINISTRATOR);
        _registries.giveBlock(SITE, 1);
        _registries.giveBlock(CITY, 2);
    }

    function testFuzz_L1_eachKindMayOrMayNot(uint8 kind, address account) external {
        IIdentityRegistry.Kind one = IIdentityRegistry.Kind(kind % 8);
        vm.assume(account != ADMINISTRATOR);
        _registries.setAccount("other", one, account);
        bool keeps = kind % 8 == 1 || kind % 8 == 2 || kind % 8 == 5 || kind % 8 == 7;
        _expect(account, _anchorCall(1, "root", 0), keeps ? bytes("") : _notAKeeper(account, one, true));
        require(_ledger.root("other").size == (keeps ? 1 : 0), "L1: log");
        require(_ledger.root(SITE).size == 0, "L1: another log");
    }

    function testFuzz_L2_theSizeRises(uint64 first, uint64 second, bytes32 root) external {
        bytes memory refusal;
        if (first == 0) refusal = abi.encodeWithSelector(IUpdateLedger.SizeNotGreater.selector, SITE, 0, 0);
        _expect(GATEWAY, _anchorCall(first, root, 0), refusal);
        if (first == 0) return;
        IUpdateLedger.Log memory log = _ledger.root(SITE);
        require(log.root == root && log.size == first && log.anchoredAt == block.timestamp, "L2");
        refusal = abi.encodeWithSelector(IUpdateLedger.SizeNotGreater.selector, SITE, second, first);
        if (second > first) refusal = abi.encodeWithSelector(IUpdateLedger.LogNotConsistent.selector, SITE, first, second);
        _expect(GATEWAY, _anchorCall(second, root, 0), refusal);
    }

    function testFuzz_L2_aSizeNeedsAllOfItsProof(bytes32 first, bytes32 second) external {
        _expect(GATEWAY, _anchorCall(1, first, 0), "");
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = second;
        bytes32 root = sha256(abi.encodePacked(bytes1(0x01), first, second)); // of two entries
        bytes memory refusal = abi.encodeWithSelector(IUpdateLedger.LogNotConsistent.selector, SITE, 1, 4);
        _expect(GATEWAY, abi.encodeCall(_ledger.anchor, (4, root, proof)), refusal);
        _expect(GATEWAY, abi.encodeCall(_ledger.anchor, (2, root, proof)), "");
    }

    function testFuzz_L2_aFirstAnchorHasNoProof(uint64 size, bytes32 root, uint8 length) external {
        bytes memory refusal;
        if (size == 0) refusal = abi.encodeWithSelector(IUpdateLedger.SizeNotGreater.selector, SITE, 0, 0);
        else if (length != 0) refusal = abi.encodeWithSelector(IUpdateLedger.LogNotConsistent.selector, SITE, 0, size);
        _expect(GATEWAY, _anchorCall(size, root, length), refusal);
    }

    function testFuzz_L4_aDeviceIsRecordedOnce(uint256 first, uint256 second, uint64 version, uint8 bit) external {
        _anchorEntries(1);
        _expect(GATEWAY, _installsCall(version, 1, first), "");
        bytes32 release = keccak256(abi.encode(uint64(1), address(0xB10C), bytes32("acme-thermo2"), version));
        require(_ledger.installed(release, 256 + uint64(bit)) == ((first >> bit) & 1 == 1), "L4: recorded");
        require(!_ledger.installed(release, bit) && !_ledger.installed(bytes32(~uint256(release)), 256 + uint64(bit)), "L4");
        bytes memory refusal;
        if (first & second != 0) {
            bytes4 selector = IUpdateLedger.AlreadyInstalled.selector;
            uint256 repeated = first & second;
            uint256 number = 256;
            while (repeated % 2 == 0) (repeated, number) = (repeated / 2, number + 1);
            refusal = abi.encodeWithSelector(selector, release, number);
        }
        _expect(GATEWAY, _installsCall(version, 1, second), refusal);
        uint256 recorded = first & second == 0 ? first | second : first;
        require(_ledger.installed(release, 256 + uint64(bit)) == ((recorded >> bit) & 1 == 1), "L4: again");
        require(_ledger.root(SITE).size == (first & second == 0 ? 3 : 2), "L4: all or nothing");
        uint256[] memory page = _ledger.installedBits(release, 0, 3);
        require(page.length == 3 && page[0] == 0 && page[1] == recorded && page[2] == 0, "L4: page");
        require(_ledger.installedBits(release, 1, 1)[0] == recorded, "L4: page of one");
        _expect(GATEWAY, _installsCall(version ^ 1, 1, first), "");
    }

    /// @notice Bytes after the last argument are not read as a further word of devices.
    function testFuzz_L4_bytesAfterTheArgumentsAreIgnored(uint256 first, uint256 second) external {
        vm.assume(second != 0);
        _expect(GATEWAY, abi.encodePacked(_installsCall(1, 1, first), second, second), "");
        bytes32 release = keccak256(abi.encode(uint64(1), address(0xB10C), bytes32("acme-thermo2"), uint64(1)));
        uint256[] memory page = _ledger.installedBits(release, 0, 3);
        require(page[0] == 0 && page[1] == first && page[2] == 0, "L4");
    }

    function testFuzz_L4_onlyTheGatewayOfTheBlock(uint256 word, uint256 bits) external {
        word = word % 4 == 0 ? word / 4 : word % 4;
        bytes memory refusal;
        if (word != 1) refusal = abi.encodeWithSelector(IUpdateLedger.DevicesNotOfSite.selector, SITE);
        _expect(GATEWAY, _installsCall(1, word, bits), refusal);
    }

    function testFuzz_L4_eachWordHasItsBits(uint8 words, uint8 bits) external {
        (words, bits) = (words % 4, bits % 4);
        bytes memory refusal;
        if (words != bits || words == 0) {
            refusal = abi.encodeWithSelector(IUpdateLedger.WordsAndBitsDiffer.selector, words, bits);
        }
        IUpdateLedger.Installs memory installs = _installs(1, 1, 0);
        (installs.words, installs.bits) = (new uint256[](words), new uint256[](bits));
        for (uint256 i = 0; i < words; ++i) installs.words[i] = 1;
        _expect(GATEWAY, abi.encodeCall(_ledger.anchorInstalls, (1, "root", new bytes32[](0), installs)), refusal);
    }

    function testFuzz_L5_anAnchorAsksNoDevices(uint256 bits, uint8 count) external {
        _anchorEntries(1);
        _registries.setDevicesFail(true);
        bytes memory refusal = abi.encodeWithSignature("Error(string)", "devices fail");
        _expect(GATEWAY, _installsCall(1, 1, bits), refusal);
        _anchorEntries(1 + (count % 16));
        require(_ledger.root(SITE).size == 2 + (count % 16), "L5");
    }

    function testFuzz_L6_aChangedEntryIsNoEvidence(uint256 place, uint8 change) external {
        place %= 45;
        vm.assume(change != 0);
        bytes memory entry = _install(DEVICE, 0);
        entry[place] ^= bytes1(change);
        bytes memory other = abi.encodePacked(entry, "again");
        (_entries, _leaves) = (new bytes[](0), new bytes32[](0));
        _append(entry);
        _append(other);
        _anchorEntries(2);
        // Header and kind are fixed bytes; another number or release is evidence about these.
        bool header = place < 3 || place == 11 || place == 12;
        bytes memory refusal;
        if (header || keccak256(_slice(entry, 3, 11)) == keccak256(new bytes(8))) {
            refusal = abi.encodeWithSelector(IUpdateLedger.NotAnInstall.selector, 0);
        }
        _expect(address(this), _suspectCall(0, 1), refusal);
    }

    function testFuzz_L6_theTwoEntriesAreAlike(uint256 place, uint8 change) external {
        place = 3 + (place % 42);
        vm.assume(change != 0);
        bytes memory other = _install(DEVICE, 1);
        other[place] ^= bytes1(change);
        _append(_install(DEVICE, 0));
        _append(other);
        _anchorEntries(2);
        bytes memory refusal = abi.encodeWithSelector(IUpdateLedger.EntriesDiffer.selector, 0, 1);
        if (place == 11 || place == 12 || keccak256(_slice(other, 3, 11)) == keccak256(new bytes(8))) {
            refusal = abi.encodeWithSelector(IUpdateLedger.NotAnInstall.selector, 1);
        }
        _expect(address(this), _suspectCall(0, 1), refusal);
    }

    function testFuzz_L6_aShortEntryIsNoEvidence(uint8 length) external {
        length %= 46;
        bytes memory entry = _slice(_install(DEVICE, 0), 0, length);
        _append(entry);
        _append(entry);
        _anchorEntries(2);
        bytes memory refusal;
        if (length < 45) refusal = abi.encodeWithSelector(IUpdateLedger.NotAnInstall.selector, 0);
        _expect(address(this), _suspectCall(0, 1), refusal);
    }

    function testFuzz_L6_theEntriesAreInTheLog(uint8 before, uint8 between, uint256 damage, bool ofSecond) external {
        before %= 8;
        between %= 8;
        for (uint256 i = 0; i < before; ++i) _append("other");
        _append(_install(DEVICE, 0));
        for (uint256 i = 0; i < between; ++i) _append("other");
        _append(_install(DEVICE, 1));
        _anchorEntries(uint64(_entries.length));
        (uint64 one, uint64 two) = (before, before + 1 + between);
        IUpdateLedger.Entry[2] memory pair = [_entry(one), _entry(two)];
        IUpdateLedger.Entry memory entry = pair[ofSecond ? 1 : 0];
        if (damage % 4 == 0) entry.path = ReferenceTree.appended(entry.path, "more");
        else if (damage % 4 == 1) entry.path = ReferenceTree.shortened(entry.path);
        else if (damage % 4 == 2) entry.data = abi.encodePacked(entry.data, uint8(0));
        else entry.path[damage % entry.path.length] ^= bytes32(uint256(1) << ((damage >> 8) % 256));
        bytes4 selector = IUpdateLedger.EntryNotInLog.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, SITE, entry.index, _size);
        _expect(address(this), abi.encodeCall(_ledger.suspect, (SITE, pair[0], pair[1])), refusal);
        refusal = abi.encodeWithSelector(IUpdateLedger.EntriesNotInOrder.selector, two, one);
        _expect(address(this), _suspectCall(two, one), refusal);
        refusal = abi.encodeWithSelector(IUpdateLedger.EntriesNotInOrder.selector, one, one);
        _expect(address(this), _suspectCall(one, one), refusal);
        _expect(address(uint160(damage)), _suspectCall(one, two), "");
    }

    /// @notice An entry of the log is no evidence at a position outside the log, even if its hash is the root.
    function testFuzz_L6_aPositionOutsideTheLogIsNoEvidence(uint64 index) external {
        vm.assume(index > 0);
        _append(_install(DEVICE, 0));
        _anchorEntries(1);
        IUpdateLedger.Entry[2] memory pair = [_entry(0), _entry(0)];
        pair[1].index = index;
        bytes memory refusal = abi.encodeWithSelector(IUpdateLedger.EntryNotInLog.selector, SITE, index, 1);
        _expect(address(this), abi.encodeCall(_ledger.suspect, (SITE, pair[0], pair[1])), refusal);
    }

    /// @notice The event names the caller, who can be a contract, and not the account that signed the transaction.
    function testFuzz_L6_theEventNamesTheCaller(address account) external {
        vm.assume(account != tx.origin);
        _append(_install(DEVICE, 0));
        _append(_install(DEVICE, 1));
        _anchorEntries(2);
        bytes memory entry = _install(DEVICE, 0);
        (bytes memory call, bytes32 release) = (_suspectCall(0, 1), bytes32(_slice(entry, 13, 45)));
        MORE.expectEmit(address(_ledger));
        emit IUpdateLedger.LogSuspended(SITE, DEVICE, release, 0, 1, account);
        _expect(account, call, "");
    }

    /// @notice Without an answer of SHA-256, nothing is anchored.
    function test_L2_aFailureOfSha256AnchorsNothing() external {
        _anchorEntries(1);
        bytes memory call = _continuation(1);
        MORE.mockCall(address(2), "", "");
        _expect(GATEWAY, call, abi.encodeWithSelector(bytes4(keccak256("Sha256Failed()"))));
        MORE.clearMockedCalls();
        _expect(GATEWAY, call, "");
    }

    function testFuzz_L7_onlyADecisionEndsASuspension(address account, uint64 number, bytes32 release, bool resume) external {
        bytes memory unknown = abi.encodeWithSelector(IUpdateLedger.WrongLogState.selector, SITE, 0);
        _expect(ADMINISTRATOR, _decideCall(DEVICE, RELEASE, resume), unknown);
        _expect(address(this), _suspectCallOfNothing(), unknown);
        _suspectTwice(0);
        bytes memory suspended = abi.encodeWithSelector(IUpdateLedger.WrongLogState.selector, SITE, 2);
        _expect(GATEWAY, _anchorCall(99, "root", 1), suspended);
        _expect(address(this), _suspectCall(0, 1), suspended);
        if (account != ADMINISTRATOR) {
            bytes4 selector = IUpdateLedger.NotAnAdministrator.selector;
            uint8 kind = account == GATEWAY ? 2 : 0;
            bytes memory refusal = abi.encodeWithSelector(selector, account, kind, account == GATEWAY);
            _expect(account, _decideCall(DEVICE, RELEASE, resume), refusal);
        }
        bytes memory differs = abi.encodeWithSelector(IUpdateLedger.SuspicionDiffers.selector, SITE, DEVICE, RELEASE);
        if (number != DEVICE) _expect(ADMINISTRATOR, _decideCall(number, RELEASE, resume), differs);
        if (release != RELEASE) _expect(ADMINISTRATOR, _decideCall(DEVICE, release, resume), differs);
        _expect(ADMINISTRATOR, _decideCall(DEVICE, RELEASE, resume), "");
        uint8 state = resume ? 1 : 3;
        bytes memory decided = abi.encodeWithSelector(IUpdateLedger.WrongLogState.selector, SITE, state);
        _expect(ADMINISTRATOR, _decideCall(DEVICE, RELEASE, true), decided);
        if (resume) return _anchorEntries(3);
        _expect(GATEWAY, _anchorCall(99, "root", 1), decided);
        _expect(address(this), _suspectCall(0, 1), decided);
    }

    function testFuzz_L7_aBannedAdministratorDecidesNothing(bool banned) external {
        _suspectTwice(0);
        if (banned) _registries.setBanned(CITY, true);
        else _registries.retire(CITY);
        bytes4 selector = IUpdateLedger.NotAnAdministrator.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, ADMINISTRATOR, 3, false);
        _expect(ADMINISTRATOR, _decideCall(DEVICE, RELEASE, true), refusal);
    }

    function testFuzz_L8_aDecisionCoversTheEntriesUntilThen(uint8 after_) external {
        uint64 later = after_ % 5;
        _append("other");
        _suspectTwice(1);
        _expect(ADMINISTRATOR, _decideCall(DEVICE, RELEASE, true), "");
        uint64 decided = _size;
        require(_ledger.suspectedSize(SITE, DEVICE, RELEASE) == decided, "L8: size");
        require(_ledger.suspectedSize(SITE, DEVICE + 1, RELEASE) == 0, "L8: another device");
        require(_ledger.suspectedSize(CITY, DEVICE, RELEASE) == 0, "L8: another log");
        bytes4 selector = IUpdateLedger.AlreadyDecided.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, SITE, DEVICE, RELEASE, decided);
        _expect(address(this), _suspectCall(1, 2), refusal);
        for (uint256 i = 0; i < later; ++i) _append(_install(DEVICE + 1, uint8(i)));
        _append(_install(DEVICE, 9));
        _anchorEntries(later + 1);
        _expect(address(this), _suspectCall(1, 2), refusal);
        // Another device of the same log is not covered, and neither is the entry that came later.
        if (later > 1) _expect(address(this), _suspectCall(decided, decided + 1), "");
        else _expect(address(this), _suspectCall(2, decided + later), "");
    }

    function testFuzz_L9_aRotationContinuesTheLog(address account, uint8 count) external {
        vm.assume(account != GATEWAY && account != ADMINISTRATOR);
        _anchorEntries(3);
        _registries.setAccount(SITE, IIdentityRegistry.Kind.Gateway, account);
        bytes memory call = _continuation(1 + (count % 8));
        _expect(GATEWAY, call, _notAKeeper(GATEWAY, IIdentityRegistry.Kind.Gateway, false));
        _expect(account, call, "");
        require(_ledger.root(SITE).size == _size, "L9");
    }

    function testFuzz_L10_aBanEndsAnchoring(uint8 count, bool banned) external {
        _anchorEntries(1 + (count % 8));
        IUpdateLedger.Log memory before = _ledger.root(SITE);
        if (banned) _registries.setBanned(SITE, true);
        else _registries.retire(SITE);
        bytes memory call = _continuation(1);
        _expect(GATEWAY, call, _notAKeeper(GATEWAY, IIdentityRegistry.Kind.Gateway, false));
        require(keccak256(abi.encode(_ledger.root(SITE))) == keccak256(abi.encode(before)), "L10: the log stays");
        if (!banned) return;
        _registries.setBanned(SITE, false);
        _expect(GATEWAY, call, "");
    }

    function testFuzz_L10_aBanDoesNotProtectTheLog(bool banned) external {
        _append(_install(DEVICE, 0));
        _append(_install(DEVICE, 1));
        _anchorEntries(2);
        if (banned) _registries.setBanned(SITE, true);
        else _registries.retire(SITE);
        _expect(address(this), _suspectCall(0, 1), "");
    }

    function testFuzz_L11_itTakesNoEther(uint64 amount, bytes calldata data) external {
        vm.deal(address(this), amount);
        (bool done, ) = address(_ledger).call{value: amount}("");
        require(!done, "L11: without data");
        vm.deal(GATEWAY, amount);
        bytes[3] memory calls = [data, _anchorCall(1, "root", 0), abi.encodeCall(_ledger.root, (SITE))];
        for (uint256 i = 0; i < 3 && amount != 0; ++i) {
            vm.prank(GATEWAY);
            (done, ) = address(_ledger).call{value: amount}(calls[i]);
            require(!done && address(_ledger).balance == 0, "L11");
        }
    }

    function testFuzz_itIsDeployedBesideRegistries(address account) external {
        bool code = account.code.length != 0;
        (bool done, ) = address(this).call(abi.encodeCall(this.deploy, (account, address(_registries))));
        require(done == code, "deployed beside no identities");
        (done, ) = address(this).call(abi.encodeCall(this.deploy, (address(_registries), account)));
        require(done == code, "deployed beside no devices");
        require(_ledger.identities() == address(_registries) && _ledger.devices() == address(_registries), "registries");
    }

    /// @notice Deploys UpdateLedger; called externally, so that a failure can be caught.
    function deploy(address identities, address devices) external {
        _deploy("UpdateLedger", abi.encode(identities, devices));
    }

    /// @dev Anchors two installs of one device and one release, and suspects the log.
    function _suspectTwice(uint64 index) private {
        _append(_install(DEVICE, 0));
        _append(_install(DEVICE, 1));
        _anchorEntries(uint64(_entries.length));
        _expect(address(this), _suspectCall(index, index + 1), "");
        IUpdateLedger.Log memory log = _ledger.root(SITE);
        require(log.state == IUpdateLedger.State.Suspended, "suspended");
        require(log.number == DEVICE && log.release == RELEASE, "suspicion");
    }

    function _append(bytes memory entry) private {
        _entries.push(entry);
        _leaves.push(ReferenceTree.leafHash(entry));
    }

    /// @dev Anchors the next entries of the log, of which those that are missing are appended.
    function _anchorEntries(uint64 count) private {
        _expect(GATEWAY, _continuation(count), "");
    }

    function _continuation(uint64 count) private returns (bytes memory) {
        uint64 size = _size + count;
        while (_entries.length < size) _append(abi.encode(_entries.length));
        bytes32[] memory proof;
        if (_size != 0) proof = ReferenceTree.proof(_leaves, _size, size);
        _size = size;
        return abi.encodeCall(_ledger.anchor, (size, ReferenceTree.root(_leaves, 0, size), proof));
    }

    function _anchorCall(uint64 size, bytes32 root, uint256 length) private view returns (bytes memory) {
        return abi.encodeCall(_ledger.anchor, (size, root, new bytes32[](length)));
    }

    /// @dev Returns a call that anchors one more entry, and records devices of one word.
    function _installsCall(uint64 version, uint256 word, uint256 bits) private returns (bytes memory) {
        uint64 size = _ledger.root(SITE).size;
        while (_entries.length < size + 1) _append(abi.encode(_entries.length));
        bytes32[] memory proof;
        if (size != 0) proof = ReferenceTree.proof(_leaves, size, size + 1);
        bytes32 root = ReferenceTree.root(_leaves, 0, size + 1);
        return abi.encodeCall(_ledger.anchorInstalls, (size + 1, root, proof, _installs(version, word, bits)));
    }

    function _installs(
        uint64 version,
        uint256 word,
        uint256 bits
    ) private pure returns (IUpdateLedger.Installs memory one) {
        (one.chain, one.blockOta, one.product, one.version) = (1, address(0xB10C), "acme-thermo2", version);
        (one.words, one.bits) = (new uint256[](1), new uint256[](1));
        (one.words[0], one.bits[0]) = (word, bits);
    }

    function _install(uint64 number, uint8 rest) private pure returns (bytes memory) {
        return abi.encodePacked(hex"910048", number, hex"5820", RELEASE, rest);
    }

    function _entry(uint64 index) private view returns (IUpdateLedger.Entry memory) {
        return IUpdateLedger.Entry(_entries[index], index, ReferenceTree.path(_leaves, index, 0, _size));
    }

    function _suspectCall(uint64 one, uint64 two) private view returns (bytes memory) {
        return abi.encodeCall(_ledger.suspect, (SITE, _entry(one), _entry(two)));
    }

    function _suspectCallOfNothing() private view returns (bytes memory) {
        IUpdateLedger.Entry memory none;
        return abi.encodeCall(_ledger.suspect, (SITE, none, none));
    }

    function _decideCall(uint64 number, bytes32 release, bool resume) private view returns (bytes memory) {
        return abi.encodeCall(_ledger.decide, (SITE, number, release, resume));
    }

    function _notAKeeper(
        address account,
        IIdentityRegistry.Kind kind,
        bool active
    ) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IUpdateLedger.NotALogKeeper.selector, account, kind, active);
    }

    function _slice(bytes memory data, uint256 from, uint256 to) private pure returns (bytes memory part) {
        part = new bytes(to - from);
        for (uint256 i = 0; i < part.length; ++i) part[i] = data[from + i];
    }

    function _expect(address sender, bytes memory call, bytes memory refusal) private {
        _expect(sender, address(_ledger), call, refusal);
    }
}
