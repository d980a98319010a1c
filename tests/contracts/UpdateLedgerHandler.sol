// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {IUpdateLedger} from "../../contracts/interfaces/IUpdateLedger.sol";
import {ForgeTest} from "./Forge.sol";
import {ReferenceTree} from "./ReferenceTree.sol";
import {Registries} from "./Registries.sol";

/// @title Handler for the invariant tests of UpdateLedger: every action, and a model of the expected state
/// @notice Foundry calls these functions in random order. Each derives from the model whether the contract must revert
/// and with which error, calls the contract, and updates the model.
/// @dev The first eight identities have all kinds in sequence, and the first one, of kind None, is not enrolled. The
/// last three are a second Validator, a second Gateway and a second Administrator.
contract UpdateLedgerHandler is ForgeTest {
    uint256 public constant PEOPLE = 11;
    uint64 public constant MOST_ENTRIES = 14;

    /// @notice An identity of the model, and its log.
    /// @param account Newest account.
    /// @param size Anchored size; the leaves beyond it are not anchored yet.
    struct Keeper {
        address account;
        bool banned;
        bool retired;
        uint64 size;
        uint40 anchoredAt;
        IUpdateLedger.State state;
        uint64 number;
        bytes32 release;
        bytes32[] leaves;
        bytes[] entries;
    }

    Registries public immutable registries;
    IUpdateLedger public immutable ledger;

    /// @notice Number of each anchor that was accepted, by log.
    mapping(uint256 who => uint64[]) public sizes;
    mapping(uint256 who => bytes32[]) public roots;

    /// @notice The recorded devices of a word.
    mapping(bytes32 release => mapping(uint256 word => uint256 bits)) public bitsOf;

    /// @notice Size of the log when a device and a release were suspected.
    mapping(bytes32 suspicion => uint64) public decided;

    Keeper[PEOPLE] internal _keepers;
    uint160 private _accounts = 1000;

    constructor() {
        vm.warp(1_700_000_000);
        registries = new Registries();
        bytes memory arguments = abi.encode(address(registries), address(registries));
        ledger = IUpdateLedger(_deploy("UpdateLedger", arguments));
        for (uint256 who = 0; who < PEOPLE; ++who) {
            _keepers[who].account = address(uint160(++_accounts));
            if (kindOf(who) != IIdentityRegistry.Kind.None) {
                registries.setAccount(uuidOf(who), kindOf(who), _keepers[who].account);
            }
        }
        // Blocks 1 and 3 belong to the first gateway, 2 and 4 to the second.
        for (uint256 word = 1; word <= 4; ++word) registries.giveBlock(uuidOf(word % 2 == 1 ? 2 : 9), word);
    }

    /// @notice Anchors a log, usually a good continuation of the log of a keeper.
    function anchor(uint256 who, uint256 seed, uint256 damage) public {
        who = _person(who);
        (uint64 size, bytes32 root, bytes32[] memory proof) = _continuation(who, seed, damage);
        bytes memory refusal = _anchoring(who, size, root, proof);
        _expect(_keepers[who].account, address(ledger), abi.encodeCall(ledger.anchor, (size, root, proof)), refusal);
        if (refusal.length == 0) _anchored(who, size, root);
    }

    /// @notice Anchors, and records devices of one or two words, which may be another site's or recorded already.
    function anchorInstalls(uint256 who, uint256 seed, uint256 damage, uint256 which) public {
        who = who % 4 == 0 ? _person(who) : (who % 2 == 0 ? 2 : 9);
        (uint64 size, bytes32 root, bytes32[] memory proof) = _continuation(who, seed, damage);
        bytes memory refusal = _anchoring(who, size, root, proof);
        IUpdateLedger.Installs memory installs = _installs(which, who);
        if (refusal.length == 0) refusal = _installing(who, installs);
        bytes memory call = abi.encodeCall(ledger.anchorInstalls, (size, root, proof, installs));
        _expect(_keepers[who].account, address(ledger), call, refusal);
        if (refusal.length != 0) return;
        _anchored(who, size, root);
        for (uint256 i = 0; i < installs.words.length; ++i) {
            bitsOf[releaseOf(installs)][installs.words[i]] |= installs.bits[i];
        }
    }

    /// @notice Suspects a log by two of its entries, which are seldom evidence.
    function suspect(uint256 who, uint256 one, uint256 two, uint256 damage) public {
        who = _person(who);
        Keeper storage keeper = _keepers[who];
        if (keeper.size == 0) {
            bytes4 selector = IUpdateLedger.WrongLogState.selector;
            IUpdateLedger.Entry memory none;
            bytes memory call = abi.encodeCall(ledger.suspect, (uuidOf(who), none, none));
            _expect(msg.sender, address(ledger), call, abi.encodeWithSelector(selector, uuidOf(who), 0));
            return;
        }
        IUpdateLedger.Entry memory first = _entry(keeper, one, damage % 16 == 1);
        IUpdateLedger.Entry memory second = _entry(keeper, two, damage % 16 == 2);
        if (damage % 16 == 3) first.data = abi.encodePacked(first.data, uint8(0));
        if (damage % 16 == 4) second.data[0] ^= 0x01;
        bytes memory refusal = _suspecting(who, first, second);
        _expect(
            address(uint160(one)),
            address(ledger),
            abi.encodeCall(ledger.suspect, (uuidOf(who), first, second)),
            refusal
        );
        if (refusal.length != 0) return;
        keeper.state = IUpdateLedger.State.Suspended;
        (keeper.number, keeper.release) = (numberIn(first.data), releaseIn(first.data));
        decided[keccak256(abi.encode(who, keeper.number, keeper.release))] = keeper.size;
    }

    /// @notice Suspects a log by evidence, if its anchored entries have evidence.
    function suspectRightly(uint256 who, uint256 seed) external {
        who = _person(who);
        uint256 size = _keepers[who].size;
        for (uint256 i = 0; i < size * size; ++i) {
            (uint256 one, uint256 two) = (((seed % (size * size)) + i) / size, ((seed % size) + i) % size);
            one %= size;
            if (one >= two || !isEvidence(who, one, two)) continue;
            suspect(who, one, two, 0);
            return;
        }
    }

    /// @notice Decides on a log, usually on a suspended one, and usually as the Administrator.
    function decide(uint256 who, uint256 seed, bool resume) external {
        who = _person(who);
        Keeper storage keeper = _keepers[who];
        uint256 by = seed % 4 == 0 ? (seed / 4) % PEOPLE : 3;
        (uint64 number, bytes32 release) = (keeper.number, keeper.release);
        if (seed % 8 == 1) ++number;
        if (seed % 8 == 2) release ^= bytes32(uint256(1));
        bytes memory refusal;
        if (kindOf(by) != IIdentityRegistry.Kind.Administrator || !_isActive(by)) {
            bytes4 selector = IUpdateLedger.NotAnAdministrator.selector;
            refusal = abi.encodeWithSelector(selector, _keepers[by].account, kindOf(by), _isActive(by));
        } else if (keeper.state != IUpdateLedger.State.Suspended) {
            refusal = _wrongState(who);
        } else if (number != keeper.number || release != keeper.release) {
            bytes4 selector = IUpdateLedger.SuspicionDiffers.selector;
            refusal = abi.encodeWithSelector(selector, uuidOf(who), keeper.number, keeper.release);
        } else {
            keeper.state = resume ? IUpdateLedger.State.Growing : IUpdateLedger.State.Retired;
        }
        bytes memory call = abi.encodeCall(ledger.decide, (uuidOf(who), number, release, resume));
        _expect(_keepers[by].account, address(ledger), call, refusal);
    }

    /// @notice Gives an identity a new account; the old one may not anchor any more.
    function rotate(uint256 who) external {
        who = _person(who);
        address old = _keepers[who].account;
        _keepers[who].account = address(uint160(++_accounts));
        registries.setAccount(uuidOf(who), kindOf(who), _keepers[who].account);
        bytes4 selector = IUpdateLedger.NotALogKeeper.selector;
        bytes memory refusal = abi.encodeWithSelector(selector, old, kindOf(who), false);
        _expect(old, address(ledger), abi.encodeCall(ledger.anchor, (1, 0, new bytes32[](0))), refusal);
    }

    /// @notice Bans an identity seldom, or lifts its ban.
    function ban(uint256 who, uint256 seed) external {
        who = _person(who);
        bool banned = seed % 4 == 0;
        _keepers[who].banned = banned;
        registries.setBanned(uuidOf(who), banned);
    }

    /// @notice Retires an identity very seldom.
    function retire(uint256 who, uint256 seed) external {
        if (seed % 16 != 0) return;
        who = _person(who);
        _keepers[who].retired = true;
        registries.retire(uuidOf(who));
    }

    /// @notice Lets the registry of devices fail for a time.
    function failDevices(uint256 seed) external {
        registries.setDevicesFail(seed % 4 == 0);
    }

    /// @notice Advances the time by at most a day.
    function warp(uint256 time) external {
        vm.warp(block.timestamp + _pick(time, 0, 1 days));
    }

    /// @notice Returns the expected log of an identity.
    function expected(uint256 who) public view returns (IUpdateLedger.Log memory log) {
        Keeper storage keeper = _keepers[who];
        if (keeper.size == 0) return log;
        log.root = ReferenceTree.root(keeper.leaves, 0, keeper.size);
        log.size = keeper.size;
        log.anchoredAt = keeper.anchoredAt;
        log.state = keeper.state;
        log.number = keeper.number;
        log.release = keeper.release;
    }

    /// @notice Returns the number of anchors of a log.
    function anchors(uint256 who) external view returns (uint256) {
        return sizes[who].length;
    }

    /// @notice Returns the leaves of a log up to a size.
    function leaves(uint256 who) external view returns (bytes32[] memory) {
        return _keepers[who].leaves;
    }

    function accountOf(uint256 who) external view returns (address) {
        return _keepers[who].account;
    }

    /// @notice Returns whether an identity may anchor now, apart from the state of its log.
    function mayAnchor(uint256 who) public view returns (bool) {
        IIdentityRegistry.Kind kind = kindOf(who);
        bool keeps = kind == IIdentityRegistry.Kind.Gateway ||
            kind == IIdentityRegistry.Kind.Validator ||
            kind == IIdentityRegistry.Kind.Technician ||
            kind == IIdentityRegistry.Kind.Cloud;
        return keeps && _isActive(who);
    }

    /// @notice Returns whether two entries are install entries of one registered device and one release.
    function isEvidence(uint256 who, uint256 one, uint256 two) public view returns (bool) {
        (bytes memory first, bytes memory second) = (_keepers[who].entries[one], _keepers[who].entries[two]);
        if (first[1] != 0 || second[1] != 0 || numberIn(first) == 0) return false;
        return numberIn(first) == numberIn(second) && releaseIn(first) == releaseIn(second);
    }

    /// @notice Returns whether a log has two install entries of a device and a release.
    function hasEvidence(uint256 who, uint64 number, bytes32 release) external view returns (bool) {
        uint256 found = 0;
        for (uint256 i = 0; i < _keepers[who].size; ++i) {
            bytes memory entry = _keepers[who].entries[i];
            if (entry[1] == 0 && numberIn(entry) == number && releaseIn(entry) == release) ++found;
        }
        return found > 1;
    }

    function kindOf(uint256 who) public pure returns (IIdentityRegistry.Kind) {
        return IIdentityRegistry.Kind(who < 8 ? who : who - 7);
    }

    function uuidOf(uint256 who) public pure returns (bytes16) {
        return who == 0 ? bytes16(0) : bytes16(keccak256(abi.encode("identity", who)));
    }

    /// @notice Returns the smallest device number of a word's bits.
    function firstOf(uint256 word, uint256 bits) public pure returns (uint256) {
        for (uint256 bit = 0; bit < 256; ++bit) {
            if ((bits >> bit) & 1 == 1) return 256 * word + bit;
        }
        revert("no device");
    }

    /// @notice Returns the release of installs.
    function releaseOf(IUpdateLedger.Installs memory one) public pure returns (bytes32) {
        return keccak256(abi.encode(one.chain, one.blockOta, one.product, one.version));
    }

    function numberIn(bytes memory entry) public pure returns (uint64 number) {
        for (uint256 i = 3; i < 11; ++i) number = (number << 8) | uint8(entry[i]);
    }

    function releaseIn(bytes memory entry) public pure returns (bytes32 release) {
        for (uint256 i = 13; i < 45; ++i) release = (release << 8) | bytes32(uint256(uint8(entry[i])));
    }

    /// @dev Appends entries to the model's log, and returns an anchor of it, which `damage` seldom makes wrong. The size
    /// and root of a first anchor are the keeper's word, so only its proof is made wrong.
    function _continuation(
        uint256 who,
        uint256 seed,
        uint256 damage
    ) private returns (uint64 size, bytes32 root, bytes32[] memory proof) {
        Keeper storage keeper = _keepers[who];
        size = keeper.size + uint64(_pick(seed, seed % 16 == 0 ? 0 : 1, 6));
        if (size > MOST_ENTRIES) size = keeper.size == 0 ? 1 : keeper.size;
        if (seed % 32 == 16 && keeper.size > 1) return (keeper.size - 1, 0, proof);
        while (keeper.leaves.length < size) {
            bytes memory entry = _newEntry(keeper.leaves.length, _mix(seed ^ keeper.leaves.length, "entry"));
            keeper.entries.push(entry);
            keeper.leaves.push(ReferenceTree.leafHash(entry));
        }
        bytes32[] memory all = keeper.leaves;
        damage %= 32;
        if (damage == 1 && keeper.size != 0) all[seed % keeper.size] ^= bytes32(uint256(1));
        if (size != 0) root = ReferenceTree.root(all, 0, size);
        if (keeper.size != 0) proof = ReferenceTree.proof(all, keeper.size, size);
        if (damage == 2 && proof.length != 0) proof = ReferenceTree.shortened(proof);
        if (damage == 3) proof = ReferenceTree.appended(proof, root);
        if (damage == 4 && proof.length != 0) proof[seed % proof.length] ^= bytes32(uint256(1) << 255);
        if (damage == 5 && keeper.size != 0) root ^= bytes32(uint256(1));
    }

    /// @dev Returns the refusal of an anchor, by the model.
    function _anchoring(
        uint256 who,
        uint64 size,
        bytes32 root,
        bytes32[] memory proof
    ) private view returns (bytes memory) {
        Keeper storage keeper = _keepers[who];
        if (!mayAnchor(who)) {
            bytes4 selector = IUpdateLedger.NotALogKeeper.selector;
            return abi.encodeWithSelector(selector, keeper.account, kindOf(who), _isActive(who));
        }
        if (keeper.state > IUpdateLedger.State.Growing) return _wrongState(who);
        if (size <= keeper.size) {
            return abi.encodeWithSelector(IUpdateLedger.SizeNotGreater.selector, uuidOf(who), size, keeper.size);
        }
        bytes32[] memory right;
        if (keeper.size != 0) right = ReferenceTree.proof(keeper.leaves, keeper.size, size);
        bool good = keccak256(abi.encode(proof)) == keccak256(abi.encode(right));
        if (good && root == ReferenceTree.root(keeper.leaves, 0, size)) return "";
        return abi.encodeWithSelector(IUpdateLedger.LogNotConsistent.selector, uuidOf(who), keeper.size, size);
    }

    function _anchored(uint256 who, uint64 size, bytes32 root) private {
        Keeper storage keeper = _keepers[who];
        keeper.size = size;
        keeper.anchoredAt = uint40(block.timestamp);
        keeper.state = IUpdateLedger.State.Growing;
        sizes[who].push(size);
        roots[who].push(root);
    }

    /// @dev Returns installs of one or two words; the lists seldom differ in length or are empty.
    function _installs(uint256 seed, uint256 who) private pure returns (IUpdateLedger.Installs memory one) {
        uint256 length = seed % 32 == 0 ? 0 : 1 + ((seed / 32) % 2);
        one = IUpdateLedger.Installs(1, address(0xB10C), "acme-thermo2", uint64(_pick(seed / 64, 1, 2)), new uint256[](length), new uint256[](seed % 32 == 1 ? length + 1 : length));
        for (uint256 i = 0; i < length; ++i) {
            uint256 own = (who == 9 ? 2 : 1) + 2 * ((seed / 128 + i) % 2);
            one.words[i] = seed % 32 == 2 ? (seed / 128) % 6 : own;
        }
        for (uint256 i = 0; i < one.bits.length; ++i) {
            one.bits[i] = (1 << ((_mix(seed, "one") % 256) ^ i)) | (1 << ((_mix(seed, "two") % 256) ^ i));
        }
    }

    /// @dev Returns the refusal of installs, by the model.
    function _installing(uint256 who, IUpdateLedger.Installs memory one) private view returns (bytes memory) {
        if (one.words.length == 0 || one.words.length != one.bits.length) {
            bytes4 selector = IUpdateLedger.WordsAndBitsDiffer.selector;
            return abi.encodeWithSelector(selector, one.words.length, one.bits.length);
        }
        if (registries.devicesFail()) return abi.encodeWithSignature("Error(string)", "devices fail");
        for (uint256 i = 0; i < one.words.length; ++i) {
            uint256 word = one.words[i];
            bool own = (who == 2 && (word == 1 || word == 3)) || (who == 9 && (word == 2 || word == 4));
            if (!own) return abi.encodeWithSelector(IUpdateLedger.DevicesNotOfSite.selector, uuidOf(who));
        }
        for (uint256 i = 0; i < one.words.length; ++i) {
            uint256 repeated = one.bits[i] & bitsOf[releaseOf(one)][one.words[i]];
            if (i == 1 && one.words[0] == one.words[1]) repeated |= one.bits[0] & one.bits[1];
            bytes4 selector = IUpdateLedger.AlreadyInstalled.selector;
            if (repeated != 0) return abi.encodeWithSelector(selector, releaseOf(one), firstOf(one.words[i], repeated));
        }
        return "";
    }

    /// @dev Returns an anchored entry with its path, or its path cut by the last hash.
    function _entry(
        Keeper storage keeper,
        uint256 seed,
        bool cut
    ) private view returns (IUpdateLedger.Entry memory entry) {
        uint256 index = seed % keeper.size;
        entry = IUpdateLedger.Entry(
            keeper.entries[index],
            uint64(index),
            ReferenceTree.path(keeper.leaves, index, 0, keeper.size)
        );
        if (cut && entry.path.length != 0) entry.path = ReferenceTree.shortened(entry.path);
    }

    /// @dev Returns the refusal of a suspicion, by the model.
    function _suspecting(
        uint256 who,
        IUpdateLedger.Entry memory first,
        IUpdateLedger.Entry memory second
    ) private view returns (bytes memory) {
        Keeper storage keeper = _keepers[who];
        if (keeper.state != IUpdateLedger.State.Growing) return _wrongState(who);
        if (first.index >= second.index) {
            return abi.encodeWithSelector(IUpdateLedger.EntriesNotInOrder.selector, first.index, second.index);
        }
        if (!_isInstall(first)) return abi.encodeWithSelector(IUpdateLedger.NotAnInstall.selector, first.index);
        if (!_isInstall(second)) return abi.encodeWithSelector(IUpdateLedger.NotAnInstall.selector, second.index);
        (uint64 number, bytes32 release) = (numberIn(first.data), releaseIn(first.data));
        if (number != numberIn(second.data) || release != releaseIn(second.data)) {
            return abi.encodeWithSelector(IUpdateLedger.EntriesDiffer.selector, first.index, second.index);
        }
        uint64 size = decided[keccak256(abi.encode(who, number, release))];
        if (second.index < size) {
            return abi.encodeWithSelector(IUpdateLedger.AlreadyDecided.selector, uuidOf(who), number, release, size);
        }
        bytes4 selector = IUpdateLedger.EntryNotInLog.selector;
        if (!_isIn(keeper, first)) return abi.encodeWithSelector(selector, uuidOf(who), first.index, keeper.size);
        if (!_isIn(keeper, second)) return abi.encodeWithSelector(selector, uuidOf(who), second.index, keeper.size);
        return "";
    }

    function _isIn(Keeper storage keeper, IUpdateLedger.Entry memory entry) private view returns (bool) {
        bytes32[] memory path = ReferenceTree.path(keeper.leaves, entry.index, 0, keeper.size);
        if (keccak256(abi.encode(path)) != keccak256(abi.encode(entry.path))) return false;
        return keccak256(keeper.entries[entry.index]) == keccak256(entry.data);
    }

    function _isInstall(IUpdateLedger.Entry memory entry) private pure returns (bool) {
        return entry.data[0] == 0x91 && entry.data[1] == 0 && numberIn(entry.data) != 0;
    }

    /// @dev An entry of kind install, reinstall or event, for one of two devices or of none, and one of two releases.
    function _newEntry(uint256 index, uint256 seed) private pure returns (bytes memory) {
        uint8 kind = seed % 4 == 3 ? uint8((seed / 4) % 2 == 0 ? 1 : 5) : 0;
        uint64 number = (seed / 8) % 8 == 0 ? 0 : uint64(256 + ((seed / 64) % 2));
        bytes32 release = keccak256(abi.encode((seed / 128) % 2));
        return abi.encodePacked(hex"91", kind, hex"48", number, hex"5820", release, uint8(index));
    }

    function _wrongState(uint256 who) private view returns (bytes memory) {
        return abi.encodeWithSelector(IUpdateLedger.WrongLogState.selector, uuidOf(who), _keepers[who].state);
    }

    function _isActive(uint256 who) private view returns (bool) {
        return who != 0 && !_keepers[who].banned && !_keepers[who].retired;
    }

    /// @dev Returns an identity: usually one that may keep a log.
    function _person(uint256 seed) private pure returns (uint256) {
        uint8[6] memory keepers = [1, 2, 5, 7, 8, 9];
        return seed % 8 == 0 ? (seed / 8) % PEOPLE : keepers[(seed / 8) % 6];
    }
}
